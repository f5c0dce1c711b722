//! Steps that wait: their alarms while the saga runs, and the end of the run while the saga only waits.

use std::time::Instant;

use buttress::{Codec, Format};

use super::Run;
use crate::instant;
use crate::saga::define::definition::Inner;
use crate::saga::define::needs::Outputs;
use crate::saga::define::signal::UNLIMITED;
use crate::saga::model::entry::Entry;
use crate::saga::model::state::{Hold, Step};
use crate::saga::run::draft::Draft;
use crate::saga::store::Store;

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Adds the start of a step that waits. A wait of zero ends immediately.
    pub(super) fn begin_wait(&self, draft: &mut Draft<F::Encoded>, step: u16) {
        let definition = &self.core.definition.inner;
        let outputs = self.outputs_after(draft);
        match definition.wait(step, &self.step_runs.input, &outputs) {
            Ok(length) => {
                draft.push(Entry::wait_started(step, length));
                if definition.takes_signal(step) {
                    self.take_signal(draft, step);
                } else if length.is_zero() {
                    draft.push(Entry::WaitEnded { step });
                }
            }
            Err(why) => {
                draft.push(Entry::ActionStarted { step });
                draft.push(Entry::ActionFailed { step, why: Some(why) });
            }
        }
    }

    /// Returns the outputs of the steps that are done after the draft.
    fn outputs_after(&self, draft: &Draft<F::Encoded>) -> Outputs {
        let definition = &self.core.definition.inner;
        let mut outputs = self.step_runs.outputs.clone();
        for (step, output) in &draft.outputs {
            outputs.set(*step, Some(output.clone()));
        }
        for entry in &draft.entries {
            outputs.set_waited(entry, definition);
        }
        outputs
    }

    /// Takes in an entry about a wait that the store has recorded.
    pub(super) fn set_alarm(&mut self, entry: &Entry<F::Encoded>) {
        match entry {
            Entry::WaitStarted { step, .. } => {
                let Some(length) = entry.wait() else { return };
                self.alarms.retain(|(waiting, _)| waiting != step);
                if length < UNLIMITED {
                    let ends = instant::after(self.core.config.common.clock.now(), length);
                    self.alarms.push((*step, ends));
                }
            }
            Entry::WaitEnded { step }
            | Entry::Signalled { step, .. }
            | Entry::ActionFailed { step, .. } => {
                self.alarms.retain(|(waiting, _)| waiting != step);
                let definition = &self.core.definition.inner;
                self.step_runs.outputs.set_waited(entry, definition);
            }
            Entry::Unwinding { .. } => self.alarms.clear(),
            _ => {}
        }
    }

    /// Returns when the first wait ends.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.alarms.iter().map(|(_, ends)| *ends).min()
    }

    /// Returns when the wait of a step ends.
    pub(super) fn alarm_of(&self, step: u16) -> Option<Instant> {
        self.alarms.iter().find(|(waiting, _)| *waiting == step).map(|(_, ends)| *ends)
    }

    /// Adds the ends of waits whose time has come.
    pub(super) fn end_waits(&self, draft: &mut Draft<F::Encoded>) {
        if self.alarms.is_empty() {
            return;
        }
        let now = self.core.config.common.clock.now();
        let definition = &self.core.definition.inner;
        let times = self.alarms.iter().filter(|(step, _)| !definition.takes_signal(*step));
        for (step, ends) in times {
            let waits = draft.state.steps.get(usize::from(*step)) == Some(&Step::Waiting);
            if waits && *ends <= now && !draft.is_full() {
                draft.push(Entry::WaitEnded { step: *step });
            }
        }
    }

    /// Whether the saga only waits, according to its log, and this run has nothing to add.
    pub(super) fn only_waits(&self) -> bool {
        let plan = &self.core.definition.inner.plan;
        self.durable.has_wait()
            && self.step_runs.is_empty()
            && self.durable.is_waiting(plan, self.situation())
    }

    /// Sets when the saga is due, if it only waits after the draft. The run ends then.
    ///
    /// The draft starts each wait, so that the lengths in the log count from one time.
    pub(super) fn park(&self, draft: &mut Draft<F::Encoded>) {
        if !draft.state.has_wait() {
            return;
        }
        let plan = &self.core.definition.inner.plan;
        // A saga is created with status `Running`.
        let is_early = self.creating.is_some() || draft.is_full() || !self.step_runs.is_empty();
        if is_early || !draft.state.is_waiting(plan, self.situation()) {
            return;
        }
        // The parent decides, and has no limit.
        if draft.state.hold == Hold::Held {
            if !draft.entries.iter().any(|entry| matches!(entry, Entry::Held)) {
                draft.push(Entry::Held);
            }
            draft.due_in = Some(UNLIMITED);
            return;
        }
        let takes_signal = |step| self.core.definition.inner.takes_signal(step);
        let now = self.core.config.common.clock.now();
        let may_unwind = !draft.state.is_committed(plan);
        let deadline = self.step_runs.deadline.filter(|_| may_unwind);
        let mut least = deadline.map(|at| at.saturating_duration_since(now));
        let mut again = Vec::new();
        for (step, length) in &draft.state.waits {
            let own = |entry: &Entry<_>| entry.wait().is_some() && entry.step() == *step;
            let begins = draft.entries.iter().any(own);
            let left = match self.alarm_of(*step) {
                Some(ends) if !begins => ends.saturating_duration_since(now),
                _ => *length,
            };
            // The next draft ends the wait.
            if self.has_signal(*step) || left.is_zero() && takes_signal(*step) {
                return;
            }
            if !begins {
                again.push(Entry::wait_started(*step, left));
            }
            least = Some(least.map_or(left, |least| least.min(left)));
        }
        again.into_iter().for_each(|entry| draft.push(entry));
        draft.due_in = least;
    }
}

impl Outputs {
    /// Sets the output of a step whose wait has ended by time.
    pub(in crate::saga) fn set_waited<I, F: Format, P>(
        &mut self,
        entry: &Entry<P>,
        definition: &Inner<I, F>,
    ) {
        if let Entry::WaitEnded { step } = entry {
            self.set(*step, definition.waited(*step));
        }
    }
}
