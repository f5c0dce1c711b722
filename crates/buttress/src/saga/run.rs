//! One saga on its task: asks the state machine, writes down, then acts.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::attempt::Attempt;
use super::call::Direction;
use super::draft::Draft;
use super::error::SagaError;
use super::flight::{Ended, Flight};
use super::report::{self, Report};
use super::shared::{COMPENSATED, COMPLETED, Core, FENCED, STUCK};
use super::state::{Command, Reason, Situation, State};
use super::store::{Append, Entry, EntryKind, NewSaga, SagaId, Status, Store};
use crate::codec::Format;
use crate::store_error::{StoreError, StoreErrorKind};

/// For how long a shut-down lets the store fail.
const SHUT_DOWN_PATIENCE: Duration = Duration::from_secs(1);

pub(super) type Reply = oneshot::Sender<Result<Report, SagaError>>;

/// What others tell a saga that runs.
#[derive(Debug, Default)]
pub(super) struct Control {
    cancelled: AtomicBool,
    told: Notify,
}

impl Control {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.wake();
    }

    /// Lets the saga look again at what it should do.
    pub(super) fn wake(&self) {
        self.told.notify_one();
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// One saga under way.
pub(super) struct Run<I, F: Format, St> {
    pub(super) core: Arc<Core<I, F, St>>,
    pub(super) id: SagaId,
    pub(super) epoch: u64,
    pub(super) control: Arc<Control>,
    /// As the log in the store tells it.
    pub(super) durable: State,
    pub(super) position: u64,
    pub(super) reason: Option<Arc<str>>,
    /// Until the saga is in the store.
    pub(super) creating: Option<Creating<F::Encoded>>,
    pub(super) reply: Option<Reply>,
    pub(super) flight: Flight<I, F, St>,
}

/// What a saga begins with.
pub(super) struct Creating<P> {
    pub(super) input: P,
    pub(super) deadline: Option<Duration>,
    pub(super) created: oneshot::Sender<Result<(), StoreError>>,
}

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    /// Runs the saga to its end. `first` are entries that come before all others.
    pub(super) async fn drive(mut self, first: Vec<Entry<F::Encoded>>) {
        let result = self.go(first).await;
        let core = self.core.clone();
        match &result {
            Ok(report) => {
                core.counters.add(match report.status() {
                    Status::Completed => COMPLETED,
                    Status::Compensated => COMPENSATED,
                    _ => STUCK,
                });
                if report.status() == Status::Stuck {
                    tracing::error!(
                        target: "buttress", layer = core.config.name.as_str(), saga = %self.id,
                        reason = report.reason(), "saga stuck"
                    );
                }
                if let Some(hook) = &core.config.on_end {
                    hook(report);
                }
            }
            Err(error) => {
                if matches!(error, SagaError::Fenced { .. }) {
                    core.counters.add(FENCED);
                }
                tracing::warn!(
                    target: "buttress", layer = core.config.name.as_str(), %error, "saga left"
                );
            }
        }
        if let Some(reply) = self.reply.take() {
            // Nobody may be waiting.
            let _ = reply.send(result);
        }
        core.ended(self.id);
    }

    async fn go(&mut self, first: Vec<Entry<F::Encoded>>) -> Result<Report, SagaError> {
        let mut draft = Draft::new(self.durable.clone());
        for entry in first {
            match entry.kind {
                EntryKind::ActionStarted => draft.launch.push((entry.step, Direction::Action)),
                EntryKind::UndoStarted => draft.launch.push((entry.step, Direction::Undo)),
                _ => {}
            }
            draft.push(entry.kind, entry.step, entry.payload, entry.note);
        }
        loop {
            if !self.core.is_shutting_down() || self.creating.is_some() {
                self.decide(&mut draft);
            }
            if !draft.entries.is_empty() {
                match self.write(&draft).await {
                    Ok(()) => self.accept(draft),
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
                return Ok(self.report(status));
            }
            if self.core.is_shutting_down() && self.flight.is_empty() {
                return Err(SagaError::ShutDown { saga: self.id });
            }
            self.wait().await;
            draft = Draft::new(self.durable.clone());
            self.take_in(&mut draft);
        }
    }

    /// Adds what the state machine wants until it wants nothing more.
    fn decide(&self, draft: &mut Draft<F::Encoded>) {
        let plan = &self.core.definition.inner.plan;
        let situation = Situation {
            cancelled: self.control.is_cancelled(),
            past_deadline: self
                .flight
                .deadline
                .is_some_and(|at| self.core.config.clock.now() >= at),
        };
        loop {
            let commands = draft.state.decide(plan, situation);
            // What is started changes nothing for what else can be done at once.
            let again = !commands
                .iter()
                .all(|command| matches!(command, Command::Act(_) | Command::Undo(_)));
            if commands.is_empty() {
                return;
            }
            for command in commands {
                self.obey(draft, command);
            }
            if !again {
                return;
            }
        }
    }

    fn obey(&self, draft: &mut Draft<F::Encoded>, command: Command) {
        let why = |kind, step: u16, text: String, draft: &mut Draft<F::Encoded>| {
            draft.reason = Some(text.as_str().into());
            draft.push(kind, step, None, Some(text));
        };
        match command {
            Command::Act(step) => {
                draft.launch.push((step, Direction::Action));
                // The first entry of all names the steps the saga was started with.
                let shape = (self.creating.is_some() && draft.entries.is_empty())
                    .then(|| self.core.definition.inner.shape.clone());
                draft.push(EntryKind::ActionStarted, step, None, shape);
            }
            Command::Undo(step) => {
                draft.launch.push((step, Direction::Undo));
                draft.push(EntryKind::UndoStarted, step, None, None);
            }
            Command::CountAsUndone(step) => draft.push(EntryKind::UndoDone, step, None, None),
            Command::Unwind(reason) => {
                let text = match reason {
                    Reason::Step(step) => self.about(draft, step),
                    Reason::Cancelled => "cancelled".to_owned(),
                    Reason::Deadline => "deadline passed".to_owned(),
                };
                why(EntryKind::Unwinding, 0, text, draft);
            }
            Command::Stick(step) => {
                let text = self.about(draft, step);
                why(EntryKind::Stuck, step, text, draft);
            }
            Command::Complete => draft.push(EntryKind::Completed, 0, None, None),
            Command::Compensate => draft.push(EntryKind::Compensated, 0, None, None),
        }
    }

    /// What is wrong with a step, from what is about to be written of it.
    fn about(&self, draft: &Draft<F::Encoded>, step: u16) -> String {
        let name = self.core.definition.inner.step_name(step);
        let own = |entry: &&Entry<F::Encoded>| entry.step == step && entry.note.is_some();
        match draft.entries.iter().rev().find(own).and_then(|entry| entry.note.as_deref()) {
            Some(note) => format!("{name}: {note}"),
            None => format!("{name}: failed before"),
        }
    }

    /// Writes a draft down, again and again while the store is away. What runs goes on meanwhile.
    async fn write(&mut self, draft: &Draft<F::Encoded>) -> Result<(), StoreError> {
        let core = self.core.clone();
        let began = core.config.clock.now();
        let mut wait = Duration::from_millis(10);
        loop {
            let wrote = match &self.creating {
                Some(creating) => {
                    let saga = NewSaga {
                        id: self.id,
                        definition: core.definition.inner.name.to_string(),
                        version: core.definition.inner.version,
                        codec: F::NAME,
                        worker: core.lease.worker,
                        deadline: creating.deadline,
                        input: creating.input.clone(),
                        entries: draft.entries.clone(),
                    };
                    self.flight.beside(core.store.create(saga)).await
                }
                None => {
                    let append = Append {
                        saga: self.id,
                        epoch: self.epoch,
                        position: self.position,
                        entries: draft.entries.clone(),
                        status: draft.state.status(),
                    };
                    let appended = self.flight.beside(core.store.append(append)).await;
                    appended.map(|appended| {
                        if appended.cancel_requested {
                            self.control.cancel();
                        }
                    })
                }
            };
            let error = match wrote {
                Err(error) if error.is_transient() => error,
                other => return self.created(other),
            };
            let waited = core.config.clock.now().saturating_duration_since(began);
            if waited >= core.config.patience {
                self.complain(&error)?;
            }
            // A shut-down does not wait for a store that is away. What is not written down is done
            // again, with the same key, by whoever goes on.
            if core.is_shutting_down() && waited >= SHUT_DOWN_PATIENCE {
                return self.created(Err(error));
            }
            self.flight.beside(core.config.clock.sleep(wait)).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    /// Tells whoever waits that the store is away. A saga that nobody has heard of yet ends with that.
    fn complain(&mut self, error: &StoreError) -> Result<(), StoreError> {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(SagaError::Store { saga: self.id, error: error.clone() }));
        }
        match self.creating.is_some() {
            true => self.created(Err(error.clone())),
            false => Ok(()),
        }
    }

    fn created(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Some(creating) = self.creating.take() {
            let _ = creating.created.send(result.clone());
        }
        result
    }

    /// A draft is in the store: from now on it is true, and what it starts may leave.
    fn accept(&mut self, draft: Draft<F::Encoded>) {
        self.position += draft.entries.len() as u64;
        self.durable = draft.state;
        for entry in &draft.entries {
            self.core.count(entry.kind);
        }
        for (step, output) in draft.outputs {
            self.flight.outputs.set(step, Some(output));
        }
        if draft.reason.is_some() {
            self.reason = draft.reason;
        }
        for (step, direction) in draft.launch {
            self.flight.launch(step, direction);
        }
    }

    /// The store can never hold this draft. An output that is too large is an action in doubt: it was
    /// done, but nobody will know what it made.
    fn without_outputs(
        &self,
        draft: Draft<F::Encoded>,
        error: &StoreError,
    ) -> Result<Draft<F::Encoded>, SagaError> {
        let done = |entry: &Entry<F::Encoded>| entry.kind == EntryKind::ActionDone;
        if !draft.entries.iter().any(done) {
            return Err(SagaError::Store { saga: self.id, error: error.clone() });
        }
        let mut again = Draft::new(self.durable.clone());
        for entry in draft.entries {
            match entry.kind {
                EntryKind::ActionDone => {
                    let note = format!("its output cannot be stored: {error}");
                    again.push(EntryKind::ActionInDoubt, entry.step, None, Some(note));
                }
                EntryKind::ActionFailed
                | EntryKind::ActionInDoubt
                | EntryKind::UndoDone
                | EntryKind::UndoFailed => again.push(entry.kind, entry.step, None, entry.note),
                _ => {}
            }
        }
        Ok(again)
    }

    /// Waits until something ends, or somebody wants something.
    async fn wait(&mut self) {
        let core = self.core.clone();
        let control = self.control.clone();
        let may_unwind = self.durable.phase == super::state::Phase::Forward
            && !self.durable.is_committed(&core.definition.inner.plan);
        let clock = &core.config.clock;
        let deadline = self.flight.deadline.filter(|at| may_unwind && *at > clock.now());
        let mut told = pin!(control.told.notified());
        let mut alarm = pin!(deadline.map(|at| clock.sleep_until(at)));
        let was_told = poll_fn(|cx| {
            let ended = self.flight.poll(cx);
            let told = told.as_mut().poll(cx).is_ready();
            let alarm = alarm.as_mut().as_pin_mut().is_some_and(|alarm| alarm.poll(cx).is_ready());
            if ended || told || alarm { Poll::Ready(told) } else { Poll::Pending }
        })
        .await;
        // A lapsed lease: nothing leaves before it is written down again under a live one.
        if self.flight.has_lapsed() && !was_told {
            let mut live = pin!(core.lease.live());
            // By the same future: it stands first in line for what is told. (A second one never heard of
            // a shut-down.)
            let either = poll_fn(|cx| match told.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => live.as_mut().poll(cx),
            });
            self.flight.beside(either).await;
        }
    }

    /// Writes down how what ran has ended.
    fn take_in(&mut self, draft: &mut Draft<F::Encoded>) {
        for (step, direction, ended) in self.flight.take_ended() {
            let output = match ended {
                Ended::Attempt(Attempt::Done(output)) => output,
                Ended::Attempt(Attempt::Failed(why)) => {
                    let kind = match direction {
                        Direction::Action => EntryKind::ActionFailed,
                        Direction::Undo => EntryKind::UndoFailed,
                    };
                    draft.push(kind, step, None, Some(why));
                    continue;
                }
                Ended::Attempt(Attempt::InDoubt(why)) => {
                    let kind = match direction {
                        Direction::Action => EntryKind::ActionInDoubt,
                        Direction::Undo => EntryKind::UndoFailed,
                    };
                    draft.push(kind, step, None, Some(why));
                    continue;
                }
                // It stays as it is in the log: whoever goes on runs it.
                Ended::Lapsed if self.core.is_shutting_down() => continue,
                Ended::Lapsed => {
                    let kind = match direction {
                        Direction::Action => EntryKind::ActionStarted,
                        Direction::Undo => EntryKind::UndoStarted,
                    };
                    draft.push(kind, step, None, None);
                    draft.launch.push((step, direction));
                    continue;
                }
            };
            match direction {
                Direction::Undo => draft.push(EntryKind::UndoDone, step, None, None),
                Direction::Action => match self.core.definition.inner.encode(step, &output) {
                    Ok(payload) => {
                        draft.push(EntryKind::ActionDone, step, Some(payload), None);
                        draft.outputs.push((step, output));
                    }
                    Err(error) => {
                        let note = format!("its output cannot be encoded: {error}");
                        draft.push(EntryKind::ActionInDoubt, step, None, Some(note));
                    }
                },
            }
        }
    }

    fn report(&self, status: Status) -> Report {
        Report {
            id: self.id,
            status,
            reason: self.reason.clone().filter(|_| status != Status::Completed),
            steps: report::steps(&self.core.definition.inner.plan, &self.durable),
            outputs: self.flight.outputs.clone(),
        }
    }
}
