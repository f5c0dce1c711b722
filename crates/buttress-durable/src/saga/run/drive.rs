//! The task of one saga: asks the state machine, records the decision, then acts.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use buttress::{Codec, Format, StoreError, StoreErrorKind};
use tokio::sync::{Notify, oneshot};

use crate::caught::{catching, caught};
use crate::saga::error::SagaError;
use crate::saga::history::Histories;
use crate::saga::model::entry::{Entry, Status};
use crate::saga::model::state::{Hold, State};
use crate::saga::reasons::Reasons;
use crate::saga::report::{self, Report};
use crate::saga::run::attempt::{Attempt, DEADLINE};
use crate::saga::run::call::Direction;
use crate::saga::run::draft::{Draft, Launch};
use crate::saga::run::executor::Executor;
use crate::saga::run::shared::Core;
use crate::saga::run::slots::Place;
use crate::saga::run::step_runs::{Ended, Finished, StepRuns};
use crate::saga::store::{SagaId, Store};

mod children;
mod drafting;
mod ending;
mod signals;
mod waiting;
mod writing;

use drafting::NOT_SENT;
pub(in crate::saga) use signals::Signals;

pub(in crate::saga) type Reply = oneshot::Sender<Result<Report, SagaError>>;

/// The requests of the executor to a running saga.
#[derive(Debug, Default)]
pub(in crate::saga) struct Control {
    cancelled: AtomicBool,
    signalled: AtomicBool,
    pub notify: Notify,
}

impl Control {
    pub(in crate::saga) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.wake();
    }

    /// Makes the saga read its signals.
    pub(in crate::saga) fn signal(&self) {
        self.signalled.store(true, Ordering::Release);
        self.wake();
    }

    fn take_signalled(&self) -> bool {
        self.signalled.load(Ordering::Relaxed) && self.signalled.swap(false, Ordering::AcqRel)
    }

    /// Makes the saga check its situation again.
    pub(in crate::saga) fn wake(&self) {
        self.notify.notify_one();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// A running saga.
pub(in crate::saga) struct Run<I, F: Format, St> {
    pub core: Arc<Core<I, F, St>>,
    pub id: SagaId,
    pub epoch: u64,
    pub control: Arc<Control>,
    /// The state according to the log in the store.
    pub durable: State,
    pub position: u64,
    pub reasons: Reasons,
    /// The last texts of the log about steps that were not done.
    pub notes: HashMap<u16, String>,
    /// When the waits in progress end.
    pub alarms: Vec<(u16, Instant)>,
    /// How long the steps in the log wait in all.
    pub limits: HashMap<u16, Duration>,
    pub signals: Signals<F::Encoded>,
    /// The histories of the steps according to the log, by this worker's clock.
    pub histories: Histories,
    /// The steps whose child saga is stuck, each with the reason.
    pub blocked: Vec<(u16, String)>,
    /// Whether this run has committed the children of the saga.
    pub children_committed: bool,
    /// The place of a resumed saga among those that run concurrently.
    pub turn: Place,
    /// `Some` until the saga is in the store.
    pub creating: Option<Creating<F::Encoded>>,
    pub reply: Option<Reply>,
    pub step_runs: StepRuns<I, F, St>,
    /// Dropped last, however the run ends: also after a panic, or with its runtime.
    pub _registered: Registered<I, F, St>,
}

/// The registration of a saga that runs on this executor.
pub(in crate::saga) struct Registered<I, F: Format, St> {
    pub core: Arc<Core<I, F, St>>,
    pub id: SagaId,
}

impl<I, F: Format, St> Drop for Registered<I, F, St> {
    fn drop(&mut self) {
        self.core.ended(self.id);
    }
}

/// The data for the creation of a saga in the store.
pub(in crate::saga) struct Creating<P> {
    pub input: P,
    pub deadline: Option<Duration>,
    /// When the caller began to wait.
    pub asked: Instant,
    pub created: oneshot::Sender<Result<(), StoreError>>,
}

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Runs the saga to its end. `first` are entries that come before all others.
    pub(in crate::saga) async fn drive(mut self, first: Vec<Entry<F::Encoded>>) {
        let result = {
            let mut going = pin!(self.go(first));
            // Attempts catch their own panics. This catches the panics of all other foreign code.
            catching(going.as_mut()).await
        };
        let result = result.unwrap_or_else(|why| Err(SagaError::Panicked { saga: self.id, why }));
        let result = match result {
            Ok(Some(report)) => Ok(report),
            Ok(None) => return self.leave(),
            Err(error) => Err(error),
        };
        self.log_end(&result);
        if let Some(reply) = self.reply.take() {
            // There may be no receiver any more.
            let _ = reply.send(result);
        }
        self.discard();
    }

    /// Ends the run of a saga that only waits. A caller that waits for its end reads its log.
    fn leave(mut self) {
        if let Some(reply) = self.reply.take().filter(|reply| !reply.is_closed()) {
            let (executor, id) = (Executor { core: self.core.clone() }, self.id);
            let spawner = self.core.config.common.spawner.clone();
            self.discard();
            spawner.spawn(async move { executor.watch(id, reply).await });
        } else {
            self.discard();
        }
    }

    fn discard(self) {
        let core = self.core.clone();
        // It holds values of user code.
        if let Err(why) = caught(|| drop(self)) {
            tracing::error!(
                target: "buttress", layer = core.config.layer().as_str(), why,
                "a value of a saga panicked when it was dropped"
            );
        }
    }

    /// Returns the report at the end; `None` if the saga only waits.
    async fn go(&mut self, first: Vec<Entry<F::Encoded>>) -> Result<Option<Report>, SagaError> {
        let mut draft = Draft::new(self.durable.clone());
        for entry in first {
            let full = draft.is_full();
            let (step, direction) = match entry {
                Entry::ActionStarted { step } => (step, Direction::Action),
                Entry::UndoStarted { step } => (step, Direction::Undo),
                Entry::ActionInDoubt { step, why } if full => {
                    let doubt = Ended::Attempt(Attempt::InDoubt(why.unwrap_or_default().into()));
                    self.step_runs.put_back(Finished::new(step, Direction::Action, doubt));
                    continue;
                }
                entry => {
                    draft.push(entry);
                    continue;
                }
            };
            // The step began before: under a worker that crashed, or before an operator's decision.
            if full {
                let lapsed = Ended::Lapsed { doubt: true };
                self.step_runs.put_back(Finished::new(step, direction, lapsed));
            } else {
                draft.begin(Launch { step, direction, doubt: true });
            }
        }
        loop {
            self.read_signals().await?;
            self.take_signals(&mut draft);
            if !self.core.is_shutting_down() || self.creating.is_some() {
                self.decide(&mut draft);
            }
            self.park(&mut draft);
            self.guard(&mut draft);
            let was_full = draft.is_full() || draft.leaves_commands;
            let parked = draft.due_in.is_some();
            if !draft.entries.is_empty() {
                let was_stopped = self.stopped().is_some();
                match self.write(&draft).await {
                    Ok(None) => {
                        draft = self.left_out(draft);
                        continue;
                    }
                    Ok(Some(permit)) => match self.stopped().filter(|_| !was_stopped) {
                        Some(why) => {
                            draft = self.hold_back(draft, &permit, why);
                            if !draft.entries.is_empty() {
                                continue;
                            }
                        }
                        None => self.accept(&mut draft, &permit),
                    },
                    Err(error) if error.kind() == StoreErrorKind::Invalid => {
                        draft = self.without_outputs(draft, &error)?;
                        continue;
                    }
                    Err(error) if error.is_fenced() => {
                        return Err(SagaError::Fenced { saga: self.id });
                    }
                    Err(error) => return Err(SagaError::Store { saga: self.id, error }),
                }
            }
            let status = self.durable.status();
            if status.is_ended() || status == Status::Stuck {
                return Ok(Some(self.report(status)));
            }
            if parked {
                // A cancel or a signal came, or the deadline passed, during the write.
                if self.only_waits() && !self.is_signalled() {
                    return Ok(None);
                }
                draft.begin_again(&self.durable);
                continue;
            }
            if self.core.is_shutting_down() && self.step_runs.is_empty() {
                return Err(SagaError::ShutDown { saga: self.id });
            }
            if self.commits_children() {
                // Boxed: most sagas have no children.
                draft = Box::pin(self.commit_children()).await?;
                continue;
            }
            // A full draft may have left entries for the next one.
            if !was_full && !self.only_waits() {
                self.set_bond();
                self.leave_turn();
                self.wait().await;
            }
            draft.begin_again(&self.durable);
            self.take_in(&mut draft);
            self.end_waits(&mut draft);
        }
    }

    /// Why no step may begin while the saga can still unwind, as the log records it.
    fn stopped(&self) -> Option<&'static str> {
        if self.control.is_cancelled() {
            return Some(NOT_SENT);
        }
        self.is_past_deadline().then_some(DEADLINE)
    }

    /// Whether a signal may have come that this run has not read. A saga that waits for its parent needs none.
    fn is_signalled(&self) -> bool {
        self.durable.hold != Hold::Held && self.control.signalled.load(Ordering::Acquire)
    }

    fn is_past_deadline(&self) -> bool {
        self.step_runs.deadline.is_some_and(|at| self.core.config.common.clock.now() >= at)
    }

    /// Waits until a step or a wait ends, the deadline passes, or a request arrives.
    async fn wait(&mut self) {
        let core = self.core.clone();
        let control = self.control.clone();
        let may_unwind = self.durable.phase == crate::saga::model::state::Phase::Forward
            && !self.durable.is_committed(&core.definition.inner.plan);
        let clock = &core.config.common.clock;
        let deadline = self.step_runs.deadline.filter(|at| may_unwind && *at > clock.now());
        let look = self.next_look();
        let first = deadline.into_iter().chain(self.alarm()).chain(look).min();
        let mut notified = pin!(control.notify.notified());
        let mut alarm = pin!(first.map(|at| clock.sleep_until(at)));
        let was_notified = poll_fn(|cx| {
            let ended = self.step_runs.poll(cx);
            let notified = notified.as_mut().poll(cx).is_ready();
            let alarm = alarm.as_mut().as_pin_mut().is_some_and(|alarm| alarm.poll(cx).is_ready());
            if ended || notified || alarm { Poll::Ready(notified) } else { Poll::Pending }
        })
        .await;
        if look.is_some_and(|look| clock.now() >= look) {
            self.signals.is_stale = true;
        }
        // The lease lapsed: no step starts before its start is recorded again under a live lease.
        if self.step_runs.has_lapsed() && !was_notified {
            let mut live = pin!(core.lease.live());
            // A caller waits for a lease that cannot be renewed no longer than for a write.
            let patience = core.config.patience;
            let mut late = pin!(self.reply.is_some().then(|| clock.sleep(patience)));
            // Polls the same future again, which is registered for notifications. A second future
            // once missed a shutdown.
            loop {
                let first = poll_fn(|cx| {
                    if notified.as_mut().poll(cx).is_ready() || live.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(false);
                    }
                    match late.as_mut().as_pin_mut().map(|late| late.poll(cx)) {
                        Some(Poll::Ready(())) => Poll::Ready(true),
                        _ => Poll::Pending,
                    }
                });
                if !self.step_runs.beside(first).await {
                    break;
                }
                late.set(None);
                let millis = patience.as_millis();
                let error = format!("renewing the lease: not renewed within {millis} ms");
                // The saga is in the store, so it continues nevertheless.
                let _ = self.complain(&StoreError::transient(error));
            }
        }
    }

    /// Remembers why a step was not done.
    pub(in crate::saga) fn note(&mut self, entry: &Entry<F::Encoded>) {
        if let Entry::ActionFailed { step, why: Some(why) }
        | Entry::ActionInDoubt { step, why: Some(why) }
        | Entry::UndoFailed { step, why: Some(why) } = entry
        {
            self.notes.insert(*step, why.clone());
        }
        match entry {
            Entry::WaitStarted { step, .. } => {
                if let Some(length) = entry.wait() {
                    self.limits.entry(*step).or_insert(length);
                }
            }
            Entry::Retried { step, .. } => drop(self.limits.remove(step)),
            _ => {}
        }
    }

    /// Returns the report of the run, which is over.
    fn report(&mut self, status: Status) -> Report {
        let histories = std::mem::replace(&mut self.histories, Histories::new(0));
        Report {
            id: self.id,
            status,
            reason: self.reasons.at(status),
            steps: report::steps(&self.core.definition.inner.plan, &self.durable),
            outputs: self.step_runs.outputs.clone(),
            history: histories.into_steps(),
        }
    }
}
