//! Sagas that were started before: recognising a repeated start, and waiting for the end.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use buttress::{Codec, Format, InMemoryValue, StoreError};
use tokio::sync::{Notify, oneshot};

use crate::bounded::bounded;
use crate::caught::caught;
use crate::instant;
use crate::saga::error::SagaError;
use crate::saga::history::Histories;
use crate::saga::model::entry::Status;
use crate::saga::model::state::State;
use crate::saga::reasons::Reasons;
use crate::saga::report::{self, Report};
use crate::saga::run::drive::Reply;
use crate::saga::run::execution::Execution;
use crate::saga::run::executor::Executor;
use crate::saga::run::shared::Core;
use crate::saga::store::{Record, SagaId, Store};

/// The first wait between two loads of a log.
const SOON: Duration = Duration::from_millis(10);

/// The longest wait between two loads of a log.
const LATE: Duration = Duration::from_secs(1);

/// A caller that waits for the end of a saga, until this value is dropped.
pub(in crate::saga) struct Watched<I, F: Format, St> {
    core: Arc<Core<I, F, St>>,
    saga: SagaId,
    /// Notified when the run of the saga here ends.
    pub ended: Arc<Notify>,
}

impl<I, F: Format, St> Watched<I, F, St> {
    pub(in crate::saga) fn new(core: Arc<Core<I, F, St>>, saga: SagaId) -> Self {
        let ended = core.watched().entry(saga).or_default().clone();
        Self { core, saga, ended }
    }
}

impl<I, F: Format, St> Drop for Watched<I, F, St> {
    fn drop(&mut self) {
        let mut watched = self.core.watched();
        // The map has one, this value the other.
        if Arc::strong_count(&self.ended) == 2 {
            watched.remove(&self.saga);
        }
    }
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Checks that the saga known under `id` is the one that a caller wanted to start since
    /// `asked`.
    ///
    /// # Errors
    /// Returns an error if it is another saga, or if the store does not answer.
    pub(in crate::saga) async fn known(
        &self,
        id: SagaId,
        input: &Arc<I>,
        encoded: &F::Encoded,
        asked: Instant,
    ) -> Result<(), SagaError> {
        let core = &self.core;
        let clock = &core.config.common.clock;
        let ends = instant::after(asked, core.config.patience);
        let store = |error| SagaError::Store { saga: id, error };
        let mut wait = SOON;
        loop {
            let left = ends.saturating_duration_since(clock.now());
            let loading = bounded(clock, left, "loading a saga", core.store.load(id));
            match loading.await.map_err(store)? {
                Some(record) if self.is_same(&record, input, encoded) => return Ok(()),
                Some(_) => return Err(store(Self::other_content(id))),
                // Another call is creating the saga now.
                None if clock.now() < ends && self.is_here(id) => {}
                None => {
                    let why =
                        format!("saga {id}: another start of the saga failed; start it again");
                    return Err(store(StoreError::transient(why)));
                }
            }
            clock.sleep(wait).await;
            wait = (wait * 2).min(LATE);
        }
    }

    /// Whether a saga runs on this executor, or is being taken or resumed.
    fn is_here(&self, id: SagaId) -> bool {
        let taking = self.core.taking().contains_key(&id);
        taking || self.core.active().contains_key(&id)
    }

    /// Returns the error of a start whose id another saga has.
    pub(in crate::saga) fn other_content(id: SagaId) -> StoreError {
        StoreError::conflict(format!("saga {id} exists with other content"))
    }

    pub(in crate::saga) fn is_same(
        &self,
        record: &Record<F::Encoded>,
        input: &Arc<I>,
        encoded: &F::Encoded,
    ) -> bool {
        let definition = &self.core.definition.inner;
        let (name, version) = (definition.name.as_str(), definition.version);
        if (record.definition.as_str(), record.version, record.codec.as_str())
            != (name, version, F::NAME)
        {
            return false;
        }
        match definition.same_input {
            // Decoding and comparing are user code. An input that cannot be read or compared counts
            // as different.
            Some(same) => caught(|| {
                let known = definition.codec.decode(&record.beginning.input);
                known.is_ok_and(|known| same(&known, input))
            })
            .unwrap_or(false),
            None => same_payload(&record.beginning.input, encoded),
        }
    }

    /// Returns an execution that waits for the end of a saga, wherever it runs.
    pub(in crate::saga) fn attach(&self, id: SagaId) -> Execution {
        let (reply, receiver) = oneshot::channel();
        let executor = self.clone();
        self.core.config.common.spawner.spawn(async move { executor.watch(id, reply).await });
        Execution::new(id, receiver)
    }

    /// Reads the log of a saga until it has ended or is stuck.
    pub(in crate::saga) async fn watch(&self, id: SagaId, mut reply: Reply) {
        let core = &self.core;
        let clock = &core.config.common.clock;
        let mut wait = SOON;
        let mut failing = None;
        let watched = Watched::new(core.clone(), id);
        loop {
            let mut ended = pin!(watched.ended.notified());
            match core.ask("loading a saga", core.store.load(id)).await {
                Ok(Some(record)) if record.status.is_ended() || record.status == Status::Stuck => {
                    let _ = reply.send(self.report_of(&record));
                    return;
                }
                Ok(Some(_)) => failing = None,
                Ok(None) => {
                    let why = "the saga is not in the store any more".to_owned();
                    let _ = reply.send(Err(SagaError::NotPossible { saga: id, why }));
                    return;
                }
                Err(error) => {
                    let since = *failing.get_or_insert_with(|| clock.now());
                    let late = clock.now() >= instant::after(since, core.config.patience);
                    if !error.may_pass() || late {
                        let _ = reply.send(Err(SagaError::Store { saga: id, error }));
                        return;
                    }
                }
            }
            if core.is_shutting_down() {
                let _ = reply.send(Err(SagaError::ShutDown { saga: id }));
                return;
            }
            let mut sleep = pin!(clock.sleep(wait));
            let is_gone = poll_fn(|cx| {
                if reply.poll_closed(cx).is_ready() {
                    return Poll::Ready(true);
                }
                let over = sleep.as_mut().poll(cx).is_ready() || ended.as_mut().poll(cx).is_ready();
                if over { Poll::Ready(false) } else { Poll::Pending }
            });
            if is_gone.await {
                return;
            }
            wait = (wait * 2).min(LATE);
        }
    }

    /// Creates the report of an ended or stuck saga from its log.
    fn report_of(&self, record: &Record<F::Encoded>) -> Result<Report, SagaError> {
        let saga = record.id;
        self.check_definition(record)?;
        let definition = &self.core.definition.inner;
        let state = State::fold(definition.steps.len(), &record.entries);
        let state = state.map_err(|why| SagaError::Corrupt { saga, why })?;
        let outputs = self.outputs_of(saga, &record.entries)?;
        let status = record.status;
        let reason = Reasons::of(&record.entries).at(status);
        let steps = report::steps(&definition.plan, &state);
        let histories = Histories::of(definition.steps.len(), &record.entries, &record.times);
        Ok(Report { id: saga, status, reason, steps, outputs, history: histories.into_steps() })
    }
}

/// Whether two encoded inputs are known to be equal.
fn same_payload<P: 'static>(one: &P, other: &P) -> bool {
    let (one, other): (&dyn Any, &dyn Any) = (one, other);
    if let (Some(one), Some(other)) =
        (one.downcast_ref::<Vec<u8>>(), other.downcast_ref::<Vec<u8>>())
    {
        return one == other;
    }
    if let (Some(one), Some(other)) = (one.downcast_ref::<String>(), other.downcast_ref::<String>())
    {
        return one == other;
    }
    let values = (one.downcast_ref::<InMemoryValue>(), other.downcast_ref());
    matches!(values, (Some(one), Some(other)) if InMemoryValue::is_same(one, other))
}
