//! Steps that wait for a signal: reading the signals of the saga, taking them in, and the end without one.

use std::time::{Duration, Instant};

use buttress::Codec;

use super::Run;
use crate::bounded::bounded;
use crate::caught::caught;
use crate::saga::error::SagaError;
use crate::saga::model::entry::Entry;
use crate::saga::run::draft::Draft;
use crate::saga::run::troubles::Operation;
use crate::saga::store::{Signal, Store, bytes_of};

/// How often a run looks for signals while steps run beside the wait for one.
const LOOK_FOR_SIGNALS: Duration = Duration::from_millis(500);

/// The first wait after a failed reading of the signals.
const SOON: Duration = Duration::from_millis(10);

/// The most bytes of signals in one draft, unless one signal alone is larger. Further ones go into the next draft.
const DRAFT_BYTES: usize = 4 << 20;

/// The signals of a saga, as far as its run knows them.
pub(in crate::saga) struct Signals<P> {
    known: Vec<Signal<P>>,
    /// Whether the store may have more signals.
    pub is_stale: bool,
}

impl<P> Default for Signals<P> {
    fn default() -> Self {
        Self { known: Vec::new(), is_stale: false }
    }
}

impl<P> Signals<P> {
    fn named(&self, name: &str) -> Option<&Signal<P>> {
        self.known.iter().find(|signal| signal.name == name)
    }

    pub(super) fn count(&self) -> u64 {
        self.known.len() as u64
    }
}

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Reads the signals from the store, if it may have more. Repeats the reading while the store is unavailable.
    pub(super) async fn read_signals(&mut self) -> Result<(), SagaError> {
        if self.control.take_signalled() {
            self.signals.is_stale = true;
        }
        if !self.signals.is_stale {
            return Ok(());
        }
        let core = self.core.clone();
        let (saga, clock) = (self.id, &core.config.common.clock);
        let began = clock.now();
        loop {
            let reading = core.store.signals(saga);
            let reading = bounded(clock, core.config.patience, "reading signals", reading);
            let error = match self.step_runs.beside(reading).await {
                Ok(known) => {
                    core.store_worked(Operation::Signals);
                    self.signals = Signals { known, is_stale: false };
                    return Ok(());
                }
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(SagaError::Store { saga, error }),
            };
            let wait = core.store_failed(Operation::Signals, &error, SOON);
            let waited = clock.now().saturating_duration_since(began);
            if waited >= core.config.patience || error.is_misconfigured() {
                // The saga is in the store, so it continues nevertheless.
                let _ = self.complain(&error);
            }
            if core.is_shutting_down() {
                return Err(SagaError::ShutDown { saga });
            }
            self.pause(wait).await;
        }
    }

    /// Adds the signals for which steps wait, and the ends of waits without a signal in time.
    ///
    /// The ends come first in their draft, because a signal that came during the write voids the draft.
    pub(super) fn take_signals(&self, draft: &mut Draft<F::Encoded>) {
        let definition = &self.core.definition.inner;
        if !definition.plan.has_signals || self.core.is_shutting_down() {
            return;
        }
        let now = self.core.config.common.clock.now();
        for (step, length) in draft.state.waits.clone() {
            if !definition.takes_signal(step) || draft.is_full() {
                continue;
            }
            if self.has_signal(step) {
                self.take_signal(draft, step);
                continue;
            }
            let is_over = self.alarm_of(step).is_some_and(|ends| ends <= now);
            if is_over && (draft.entries.is_empty() || draft.ends_without_signal) {
                draft.ends_without_signal = true;
                draft.push(match definition.waited(step) {
                    Some(_) => Entry::WaitEnded { step },
                    None => {
                        let length = self.limits.get(&step).copied().unwrap_or(length);
                        let why = Some(format!("no signal within {length:?}"));
                        Entry::ActionFailed { step, why }
                    }
                });
            }
        }
    }

    /// Whether this run knows the signal for which a step waits.
    pub(super) fn has_signal(&self, step: u16) -> bool {
        let definition = &self.core.definition.inner;
        definition.takes_signal(step)
            && self.signals.named(definition.step_name(step).as_str()).is_some()
    }

    /// Adds the signal for which a step waits, if there is one and the draft has room for it.
    pub(super) fn take_signal(&self, draft: &mut Draft<F::Encoded>, step: u16) {
        let definition = &self.core.definition.inner;
        let Some(signal) = self.signals.named(definition.step_name(step).as_str()) else { return };
        let Some(code) = definition.steps.get(usize::from(step)) else { return };
        let signals = draft.entries.iter().filter_map(|entry| match entry {
            Entry::Signalled { output, .. } => bytes_of(output),
            _ => None,
        });
        if signals.sum::<usize>() > DRAFT_BYTES {
            return;
        }
        // The codec is user code.
        let output = caught(|| (code.decode)(&definition.codec, &signal.payload));
        match output.and_then(|output| output.map_err(|error| error.to_string())) {
            Ok(output) => {
                draft.push(Entry::Signalled { step, output: signal.payload.clone() });
                draft.outputs.push((step, output));
            }
            Err(why) => {
                let why = Some(format!("the payload of the signal cannot be read: {why}"));
                draft.push(Entry::ActionFailed { step, why });
            }
        }
    }

    /// Makes the write of a draft depend on the signals, if the saga goes to wait for one or ends a wait without one.
    pub(super) fn guard(&self, draft: &mut Draft<F::Encoded>) {
        let definition = &self.core.definition.inner;
        if !definition.plan.has_signals {
            return;
        }
        let parks = draft.due_in.is_some()
            && draft.state.waits.iter().any(|(step, _)| definition.takes_signal(*step));
        draft.seen_signals = (parks || draft.ends_without_signal).then(|| self.signals.count());
    }

    /// Returns when the run looks for signals again. `None` if no step waits for one.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let definition = &self.core.definition.inner;
        let waits = definition.plan.has_signals
            && self.durable.waits.iter().any(|(step, _)| definition.takes_signal(*step));
        waits.then(|| self.core.config.common.clock.now() + LOOK_FOR_SIGNALS)
    }
}
