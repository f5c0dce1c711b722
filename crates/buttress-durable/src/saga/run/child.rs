//! [`Child`]: a child saga as a step of its parent sees it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress::{Codec, Format, StoreError, StoreErrorKind};

use crate::caught::caught;
use crate::saga::error::{SagaError, WithCauses};
use crate::saga::model::child::{self, Parent, Stage};
use crate::saga::model::entry::{Entry, Status};
use crate::saga::model::shape;
use crate::saga::reasons::Reasons;
use crate::saga::run::attaching::Watched;
use crate::saga::run::attempt::{Attempt, Failure, Output, Terms};
use crate::saga::run::call::Direction;
use crate::saga::run::executor::Executor;
use crate::saga::run::troubles::Operation;
use crate::saga::store::{Record, SagaId, Store};

mod commit;

/// The first wait between two loads of the log of a child, and after a failure of its store.
const SOON: Duration = Duration::from_millis(10);

/// The longest wait between two loads of the log of a child.
const LATE: Duration = Duration::from_secs(5);

/// The reason of a child that its parent cancelled before it started.
const NOT_STARTED: &str = "cancelled before it started";

/// The commit of a child. The error is the reason why the child can never be committed.
pub(in crate::saga) type CommitFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Returns the id of the child that the step `step` of `parent` runs.
pub(in crate::saga) fn id_of(parent: SagaId, step: &str) -> SagaId {
    SagaId::new(child::number(parent.get(), step))
}

/// A child saga as a step of its parent sees it.
///
/// Every request can be repeated, by this worker or another one. So dropping a future leaves nothing behind.
pub(in crate::saga) struct Child<J, G: Format, St> {
    executor: Executor<J, G, St>,
    id: SagaId,
    parent: Parent,
    /// The step of the child whose output is the output of the step of the parent.
    output: u16,
}

/// The log under the id of a child.
enum Found<P> {
    Nothing,
    Own(Box<Record<P>>),
    /// Why it is not a child of this parent. The text follows the id.
    Other(String),
}

impl<J, G, St> Child<J, G, St>
where
    J: Send + Sync + 'static,
    G: Codec<J>,
    St: Store<G::Encoded>,
{
    pub(in crate::saga) fn new(
        executor: Executor<J, G, St>,
        (parent, step): (SagaId, &str),
        holds: bool,
        output: u16,
    ) -> Self {
        let id = id_of(parent, step);
        let parent = Parent { saga: parent.get(), step: step.to_owned(), holds };
        Self { executor, id, parent, output }
    }

    /// Makes one attempt of the step.
    ///
    /// The action starts the child, unless it is known, and waits until it is held or has ended. It cancels the child if
    /// the parent is cancelled. The undo cancels the child, and waits until it is compensated.
    pub(in crate::saga) async fn attempt(
        self,
        make: impl Fn() -> Result<J, String> + Send + Sync,
        terms: Terms,
    ) -> Attempt {
        self.reach_end(&make, &terms).await.unwrap_or_else(|end| end)
    }

    /// Returns the end of the attempt, in both variants.
    async fn reach_end(
        &self,
        make: &(impl Fn() -> Result<J, String> + Send + Sync),
        terms: &Terms,
    ) -> Result<Attempt, Attempt> {
        let core = &self.executor.core;
        self.look_for_due().await;
        let watched = Watched::new(core.clone(), self.id);
        let direction = terms.key.direction();
        let cancels = || match direction {
            Direction::Undo => true,
            Direction::Action => {
                terms.bond.as_ref().is_some_and(|bond| bond.cancels(self.parent.holds))
            }
        };
        let (mut wait, mut is_cancelled, mut was_seen) = (SOON, false, false);
        // A step that starts for the first time has no child yet.
        let mut is_first = direction == Direction::Action && !terms.doubt;
        loop {
            let mut ended = pin!(watched.ended.notified());
            let knew = cancels();
            let found = match std::mem::take(&mut is_first) {
                true => Found::Nothing,
                false => self.find().await,
            };
            match found {
                Found::Other(why) => return Err(self.stuck(&why)),
                Found::Nothing if was_seen => return Err(self.is_gone(direction)),
                Found::Nothing => {
                    // Otherwise another call is creating it now.
                    if self.begin(make, terms, knew).await? {
                        continue;
                    }
                }
                Found::Own(record) => {
                    was_seen = true;
                    let is_open = !record.status.is_ended() && !record.cancel_requested;
                    if knew && is_open && !is_cancelled {
                        self.cancel().await?;
                        is_cancelled = true;
                        continue;
                    }
                    if let Some(end) = self.end(direction, &record) {
                        return Ok(end);
                    }
                }
            }
            let mut sleep = pin!(core.config.common.clock.sleep(wait));
            poll_fn(|cx| {
                let over = sleep.as_mut().poll(cx).is_ready() || ended.as_mut().poll(cx).is_ready();
                if over || cancels() && !knew { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            wait = (wait * 2).min(LATE);
        }
    }

    /// Returns the end of the attempt, if the child has reached one.
    fn end(&self, direction: Direction, record: &Record<G::Encoded>) -> Option<Attempt> {
        let reason = || {
            let reason = Reasons::of(&record.entries).at(record.status);
            reason.unwrap_or_else(|| "no reason".into())
        };
        let is_held = self.parent.holds
            && !record.cancel_requested
            && Stage::of(&record.entries) == Stage::Held;
        match (record.status, direction) {
            (Status::Stuck, _) => Some(self.stuck(&format!(" is stuck: {}", reason()))),
            (Status::Compensated, Direction::Undo) => Some(Attempt::Done(Arc::new(()))),
            (Status::Compensated, Direction::Action) => {
                Some(Attempt::Failed(self.failure(&format!(": {}", reason()))))
            }
            (Status::Completed, Direction::Undo) => {
                Some(self.stuck(" has completed, so it cannot be undone"))
            }
            (Status::Completed, Direction::Action) => Some(self.done(record)),
            (_, Direction::Action) if is_held => Some(self.done(record)),
            _ => None,
        }
    }

    fn done(&self, record: &Record<G::Encoded>) -> Attempt {
        match self.output_of(record) {
            Ok(output) => Attempt::Done(output),
            Err(why) => self.stuck(&format!(" is done, but its output cannot be read: {why}")),
        }
    }

    fn output_of(&self, record: &Record<G::Encoded>) -> Result<Output, String> {
        if let Err(changed) = self.executor.check_definition(record) {
            return self.output_of_version(record).ok_or_else(|| changed.to_string());
        }
        let outputs = self.executor.outputs_of(self.id, &record.entries);
        let outputs = outputs.map_err(|error| error.to_string())?;
        outputs.of(self.output).cloned().ok_or_else(|| "there is none".to_owned())
    }

    /// Returns the output of a child of another version, in which the step has the same name and type.
    fn output_of_version(&self, record: &Record<G::Encoded>) -> Option<Output> {
        let definition = &self.executor.core.definition.inner;
        let name = definition.step_name(self.output);
        let steps = shape::steps(record.beginning.shape.as_deref()?)?;
        let number = steps.iter().position(|step| step.name == name.as_str())?;
        let own = |entry: &&Entry<_>| usize::from(entry.step()) == number;
        let payload = record.entries.iter().rev().filter(own).find_map(Entry::payload)?;
        let code = definition.steps.get(usize::from(self.output))?;
        // The codec is user code.
        let output = caught(|| (code.decode)(&definition.codec, payload));
        output.ok().filter(|_| record.codec == G::NAME)?.ok()
    }

    /// Returns a text that begins with the id of the child.
    fn about(&self, rest: &str) -> String {
        format!("child {}{rest}", self.id)
    }

    fn failure(&self, rest: &str) -> Failure {
        self.about(rest).into()
    }

    fn stuck(&self, rest: &str) -> Attempt {
        Attempt::Stuck(self.failure(rest))
    }

    /// Returns the end of an attempt whose child was in the store, and is not there any more.
    fn is_gone(&self, direction: Direction) -> Attempt {
        match direction {
            // Only an ended child is removed, and a child that its parent holds ends compensated.
            Direction::Undo => Attempt::Done(Arc::new(())),
            Direction::Action => Attempt::InDoubt(self.failure(" is not in its store any more")),
        }
    }

    /// Creates the child, and returns whether it did. `is_cancelled` creates it in the state in which it unwinds, so that
    /// a late start finds it.
    async fn begin(
        &self,
        make: &(impl Fn() -> Result<J, String> + Send + Sync),
        terms: &Terms,
        is_cancelled: bool,
    ) -> Result<bool, Attempt> {
        let core = &self.executor.core;
        let is_undo = terms.key.direction() == Direction::Undo;
        if terms.doubt && !is_cancelled {
            self.check_not_purged(terms)?;
        }
        // Another worker may own the parent by now. It finds what this one has started before.
        if !terms.permit.stands() {
            return Err(Attempt::Lapsed { doubt: terms.doubt });
        }
        let not_made = |why: String| match terms.doubt || is_undo {
            false => Attempt::Failed(why.into()),
            true => Attempt::InDoubt(why.into()),
        };
        let input = Arc::new(make().map_err(not_made)?);
        let encoded = self.executor.encode_input(self.id, &input);
        let encoded = encoded.map_err(|error| not_made(WithCauses(&error).to_string()))?;
        let mut first = vec![self.parent.entry()];
        if is_cancelled {
            first.push(Entry::Unwinding { why: Some(NOT_STARTED.to_owned()) });
        }
        loop {
            let created = self.executor.create(self.id, &input, &encoded, first.clone()).await;
            let error = match created {
                Ok(created) => {
                    core.store_worked(Operation::Child);
                    return Ok(created.is_some());
                }
                Err(SagaError::Store { error, .. }) => match error.kind() {
                    StoreErrorKind::Fenced => return Ok(false),
                    // The store can never hold the child, whichever worker starts it.
                    StoreErrorKind::Invalid if is_undo => return Err(Attempt::Done(Arc::new(()))),
                    StoreErrorKind::Invalid => {
                        return Err(Attempt::Failed(self.failure(&format!(": {error}"))));
                    }
                    _ if error.may_pass() => error,
                    _ => return Err(self.stuck(&format!(" cannot be started: {error}"))),
                },
                // The executor of the child shuts down, or the task of the child panicked.
                Err(error) => StoreError::transient(error.to_string()),
            };
            self.pause(&error).await;
            if !matches!(self.find().await, Found::Nothing) {
                return Ok(false);
            }
        }
    }

    /// Refuses to start a child again that may have completed, and that its store may have removed since.
    fn check_not_purged(&self, terms: &Terms) -> Result<(), Attempt> {
        let config = &self.executor.core.config;
        let began = terms.bond.as_ref().and_then(|bond| bond.began(terms.key.step()));
        let age = began.map(|began| config.common.clock.unix().saturating_sub(began));
        let is_old =
            age.is_none_or(|age| config.retention.is_some_and(|retention| age >= retention));
        // A store keeps a held child, and a compensated child has no effect.
        if self.parent.holds || !is_old {
            return Ok(());
        }
        let why = " is not in its store. It may have completed, and its retention is over";
        Err(Attempt::InDoubt(self.failure(why)))
    }

    /// Waits after a failure of the store of the child.
    async fn pause(&self, error: &StoreError) {
        let core = &self.executor.core;
        let wait = core.store_failed(Operation::Child, error, SOON);
        core.config.common.clock.sleep(wait).await;
    }

    /// Reads the log of the child. Repeats the reading while the store is unavailable.
    async fn find(&self) -> Found<G::Encoded> {
        let core = &self.executor.core;
        loop {
            let error = match core.ask("loading a child saga", core.store.load(self.id)).await {
                Ok(None) => {
                    core.store_worked(Operation::Child);
                    return Found::Nothing;
                }
                Ok(Some(record)) => {
                    core.store_worked(Operation::Child);
                    let is_own = self.parent.owns(&record.entries)
                        && record.definition == core.definition.inner.name.as_str();
                    return match is_own {
                        true => Found::Own(Box::new(record)),
                        false => {
                            let name = &record.definition;
                            Found::Other(format!(" is another saga with this id, of \"{name}\""))
                        }
                    };
                }
                Err(error) if error.may_pass() => error,
                Err(error) => return Found::Other(format!(" cannot be read: {error}")),
            };
            self.pause(&error).await;
        }
    }

    /// Requests the cancellation of the child. Repeats the request while the store is unavailable.
    async fn cancel(&self) -> Result<(), Attempt> {
        loop {
            match self.executor.request_cancel(self.id).await {
                Ok(_) => {
                    self.executor.core.store_worked(Operation::Child);
                    return Ok(());
                }
                Err(error) if error.may_pass() => self.pause(&error).await,
                Err(error) => return Err(self.stuck(&format!(" cannot be cancelled: {error}"))),
            }
        }
    }

    /// Makes the executor of the child look for sagas that are due, also if it has not run any yet.
    async fn look_for_due(&self) {
        let core = &self.executor.core;
        if !core.is_shutting_down() {
            // If the store is unavailable, another executor takes the child.
            let _ = core.ask("taking a lease", core.begin_lease()).await;
        }
    }
}
