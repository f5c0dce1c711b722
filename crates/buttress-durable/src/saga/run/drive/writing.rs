//! Writing a draft to the store.

use std::time::Duration;

use buttress::{Codec, StoreError};

use super::Run;
use crate::bounded::bounded;
use crate::instant;
use crate::outage::LONGEST;
use crate::saga::error::SagaError;
use crate::saga::model::entry::{Entry, Status};
use crate::saga::run::call::Direction;
use crate::saga::run::counters::Counter;
use crate::saga::run::draft::{Draft, Launch};
use crate::saga::run::lease::Permit;
use crate::saga::run::troubles::Operation;
use crate::saga::store::{Append, NewSaga, Store};

/// How long a shutdown waits for a failing store.
const SHUT_DOWN_PATIENCE: Duration = Duration::from_secs(1);
/// After failures for this long, the waits grow beyond a second.
const LONG_OUTAGE: Duration = Duration::from_secs(30);

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Writes a draft to the store, and repeats the write while the store is unavailable. Running
    /// steps continue in the meantime. Returns the permit for the steps of the draft. It was taken
    /// before the store confirmed that this worker owns the saga. Returns `None` if the store has left the draft
    /// out, because the saga has signals or a cancel that this run had not seen.
    pub(super) async fn write(
        &mut self,
        draft: &Draft<F::Encoded>,
    ) -> Result<Option<Permit>, StoreError> {
        let core = self.core.clone();
        let clock = &core.config.common.clock;
        let began = self.creating.as_ref().map_or_else(|| clock.now(), |creating| creating.asked);
        let (mut wait, mut longer) = (Duration::from_millis(10), core.config.patience);
        let mut is_left_out = false;
        let at_shut_down = SHUT_DOWN_PATIENCE.min(core.config.patience);
        loop {
            let permit = core.lease.permit();
            let waited = clock.now().saturating_duration_since(began);
            let limit = if core.is_shutting_down() {
                at_shut_down
            } else if waited < core.config.patience {
                core.config.patience - waited
            } else {
                // No caller waits any more, so a slow store gets more time with each attempt.
                longer = longer.saturating_mul(2);
                longer
            };
            let wrote = match &self.creating {
                Some(creating) => {
                    let definition = &core.definition.inner;
                    let beginning = definition.beginning(creating.input.clone());
                    let saga = NewSaga {
                        id: self.id,
                        definition: definition.name.to_string(),
                        version: definition.version,
                        codec: F::NAME,
                        worker: core.lease.worker,
                        deadline: creating.deadline,
                        beginning,
                        entries: draft.entries.clone(),
                    };
                    let creating = core.store.create(saga);
                    self.step_runs.beside(bounded(clock, limit, "creating a saga", creating)).await
                }
                None => {
                    let append = Append {
                        saga: self.id,
                        epoch: self.epoch,
                        position: self.position,
                        entries: draft.entries.clone(),
                        status: match draft.due_in {
                            Some(_) => Status::Waiting,
                            None => draft.state.status(),
                        },
                        due_in: draft.due_in,
                        seen_signals: draft.seen_signals,
                        knows_cancel: draft.knows_cancel,
                    };
                    let appending = core.store.append(append);
                    let appending = bounded(clock, limit, "appending to a saga", appending);
                    let appended = self.step_runs.beside(appending).await;
                    appended.map(|appended| {
                        is_left_out = appended.is_left_out();
                        // Only once: a saga that was notified checks its situation again without
                        // waiting.
                        if appended.cancel_requested && !self.control.is_cancelled() {
                            self.control.cancel();
                        }
                    })
                }
            };
            let error = match wrote {
                Err(error) if error.may_pass() => error,
                other => {
                    core.store_worked(Operation::Write);
                    let permit = (!is_left_out).then_some(permit);
                    return self.created(other).map(|()| permit);
                }
            };
            let waited = core.config.common.clock.now().saturating_duration_since(began);
            let by_hand = core.store_failed(Operation::Write, &error, wait);
            // A longer wait does not help a caller if an operator must fix the store.
            if waited >= core.config.patience || error.is_misconfigured() {
                self.complain(&error)?;
            }
            // A shutdown does not wait for an unavailable store. Steps that are not recorded run
            // again, with the same key, under the next worker.
            if core.is_shutting_down() && waited >= at_shut_down {
                return self.created(Err(error)).map(|()| Some(permit));
            }
            let pause = if error.is_misconfigured() { by_hand } else { wait };
            self.pause(pause).await;
            // The waits grow during a long outage.
            let longest = if waited < LONG_OUTAGE { Duration::from_secs(1) } else { LONGEST };
            wait = (wait * 2).min(longest);
        }
    }

    /// Waits for `time`, or until a shutdown has waited long enough.
    pub(super) async fn pause(&mut self, time: Duration) {
        let clock = self.core.config.common.clock.clone();
        let ends = instant::after(clock.now(), time);
        loop {
            let left = ends.saturating_duration_since(clock.now());
            if left.is_zero() {
                return;
            }
            self.step_runs.beside(clock.sleep(left.min(SHUT_DOWN_PATIENCE))).await;
            if self.core.is_shutting_down() {
                return;
            }
        }
    }

    /// Reports the error to the waiting caller. Ends a saga that is not created yet.
    pub(super) fn complain(&mut self, error: &StoreError) -> Result<(), StoreError> {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(SagaError::Store { saga: self.id, error: error.clone() }));
        }
        match self.creating.is_some() {
            // The store may hold it nevertheless. A recovery then finds it.
            true => self.created(Err(error.clone())),
            false => Ok(()),
        }
    }

    fn created(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Some(creating) = self.creating.take() {
            if result.is_ok() {
                self.core.counters.add(Counter::Started);
            }
            let _ = creating.created.send(result.clone());
        }
        result
    }

    /// Takes in a stored draft, after a cancel that came, or a deadline that passed, during the write. Steps that
    /// begin for the first time do not start, if the saga can still unwind. Returns the draft that records this.
    pub(super) fn hold_back(
        &mut self,
        mut draft: Draft<F::Encoded>,
        permit: &Permit,
        why: &str,
    ) -> Draft<F::Encoded> {
        let way_back = !draft.state.is_committed(&self.core.definition.inner.plan);
        let (held, launch) = draft.launch.into_iter().partition(|launch: &Launch| {
            way_back && launch.direction == Direction::Action && !launch.doubt
        });
        draft.launch = launch;
        self.accept(&mut draft, permit);
        let mut next = Draft::new(self.durable.clone());
        for Launch { step, .. } in held {
            next.push(Entry::ActionFailed { step, why: Some(why.to_owned()) });
        }
        next
    }

    /// Takes in a stored draft. Its steps start under `permit`. Only the room of the draft stays.
    pub(super) fn accept(&mut self, draft: &mut Draft<F::Encoded>, permit: &Permit) {
        self.position += draft.entries.len() as u64;
        std::mem::swap(&mut self.durable, &mut draft.state);
        let now = self.core.config.common.clock.unix();
        for entry in draft.entries.drain(..) {
            self.histories.add(&entry, Some(now));
            self.reasons.add(&entry);
            self.core.count(entry.kind());
            self.note(&entry);
            if self.core.definition.inner.plan.has_waits {
                self.set_alarm(&entry);
            }
        }
        for (step, output) in draft.outputs.drain(..) {
            self.step_runs.outputs.set(step, Some(output));
        }
        for launch in draft.launch.drain(..) {
            self.note_start(launch.step);
            self.step_runs.launch(launch, permit);
        }
    }
}
