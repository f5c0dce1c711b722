//! Sagas that start in the caller's own transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Codec, Format};
use tokio::sync::oneshot;

use crate::saga::error::SagaError;
use crate::saga::run::counters::Counter;
use crate::saga::run::drive::Reply;
use crate::saga::run::execution::Execution;
use crate::saga::run::executor::Executor;
use crate::saga::run::recovery::Recovery;
use crate::saga::run::troubles::Operation;
use crate::saga::store::{CreateIn, NewSaga, Record, SagaId, Store, WorkerId};

/// How often an executor that [keeps recovering](Executor::keep_recovering) looks for sagas that no worker has taken.
pub(in crate::saga) const LOOK_FOR_NEW: Duration = Duration::from_millis(500);

/// A saga that exists once its transaction commits. [`Executor::start_in`] returns it.
#[must_use = "call `committed` after the commit, so that the saga runs here without a poll"]
pub struct StartedIn<I, F: Format, St> {
    executor: Executor<I, F, St>,
    id: SagaId,
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Starts a saga in the transaction `tx` of the caller. The saga runs once if the transaction
    /// commits, and does not exist if it is rolled back.
    ///
    /// Call [`StartedIn::committed`] after the commit: this executor then runs the saga immediately.
    /// Without this call, or if the process crashes right after the commit, an executor that
    /// [keeps recovering](Self::keep_recovering) takes the saga within 500 ms, in any process.
    ///
    /// The handler of an event records the receipt of the event and starts the saga in one
    /// transaction. Each event then starts one saga, although its delivery repeats.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use buttress_durable::outbox::{self, Inbox, MessageId, Receipt};
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, SagaId, Status};
    ///
    /// # let charge = service_fn(async |_: Call<u32>| Ok::<(), BoxError>(()));
    /// let mut order = Definition::<u32>::builder("order", 1);
    /// order.step("charge").action((), charge, |cents: &u32, ()| *cents).add();
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    /// let database = outbox::MemoryStore::new(buttress::Clock::default());
    ///
    /// let event = MessageId::new(7);
    /// let mut tx = database.begin();
    /// assert_eq!(database.receive(&mut tx, "orders", event).await?, Receipt::First);
    /// let started = orders.start_in(&mut tx, SagaId::new(event.get()), 990).await?;
    /// tx.commit();
    /// assert_eq!(started.committed().await?.status(), Status::Completed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`AlreadyStarted`](SagaError::AlreadyStarted) if a saga of this definition and version
    /// was started before under this id with the same input, also by this transaction. Returns a
    /// [`Conflict`](buttress::StoreErrorKind::Conflict) if the saga under this id has other content. Returns
    /// `Invalid` if the saga is too large, and an error if the input cannot be encoded. The
    /// transaction is unchanged after these errors. After any other error, roll it back.
    pub async fn start_in<Tx>(
        &self,
        tx: &mut Tx,
        id: SagaId,
        input: I,
    ) -> Result<StartedIn<I, F, St>, SagaError>
    where
        St: CreateIn<Tx, F::Encoded>,
    {
        let core = &self.core;
        let store = |error| SagaError::Store { saga: id, error };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga: id });
        }
        let input = Arc::new(input);
        let encoded = self.encode_input(id, &input)?;
        let definition = &core.definition.inner;
        let unix = core.config.common.clock.unix();
        let saga = NewSaga {
            id,
            definition: definition.name.to_string(),
            version: definition.version,
            codec: F::NAME,
            worker: WorkerId::NOBODY,
            deadline: core.config.deadline.map(|length| unix.saturating_add(length)),
            beginning: definition.beginning(encoded.clone()),
            entries: Vec::new(),
        };
        let creating = core.store.create_in(tx, saga);
        match core.ask("creating a saga in a transaction", creating).await.map_err(store)? {
            None => Ok(StartedIn { executor: self.clone(), id }),
            Some(known) => Err(match self.is_same(&known, &input, &encoded) {
                true => SagaError::AlreadyStarted { saga: id },
                false => store(Self::other_content(id)),
            }),
        }
    }

    /// Takes a saga whose transaction has committed, and runs it to its end.
    async fn run_committed(self, id: SagaId, reply: Reply) {
        let core = self.core.clone();
        // Reserved until the saga is registered here, so that a recovery does not take it too.
        let reserved = core.reserve(id);
        let taken = match &reserved {
            Some(_) => self.take_committed(id).await,
            None => Ok(None),
        };
        let prepared = taken.map(|taken| taken.map(|record| self.prepare(record, Vec::new())));
        drop(reserved);
        match prepared {
            Ok(Some(prepared)) => match prepared {
                Ok((mut run, _execution, first, context)) => {
                    run.reply = Some(reply);
                    core.counters.add(Counter::Started);
                    context.scope(run.drive(first)).await;
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            // Another worker runs it, or this one under its recovery. After a failure of the store a recovery takes it.
            Ok(None) => self.watch(id, reply).await,
            Err(SagaError::Store { error, .. }) if error.may_pass() => self.watch(id, reply).await,
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    async fn take_committed(&self, saga: SagaId) -> Result<Option<Record<F::Encoded>>, SagaError> {
        let core = &self.core;
        let store = |error| SagaError::Store { saga, error };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga });
        }
        core.ask("taking a lease", core.begin_live_lease()).await.map_err(store)?;
        let taking = core.store.take_unowned(core.lease.worker, saga);
        core.ask("taking a saga", taking).await.map_err(store)
    }

    /// Takes the sagas that were created in transactions and that no worker has taken, of all versions that run here.
    pub(in crate::saga) async fn take_new(&self) {
        let core = &self.core;
        for other in core.versions() {
            // It has logged its failure.
            let _taken = other.take_new().await;
        }
        // The next recovery finds them after the outage.
        if core.troubles.are_on() {
            return;
        }
        let definition = &core.definition.inner;
        let asking = core.store.has_unowned(definition.name.as_str(), definition.version);
        let taken = match core.ask("looking for new sagas", asking).await {
            Ok(false) => return,
            Ok(true) => self.take_over(&mut Recovery::default()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            let _wait = core.store_failed(Operation::Recover, &error, LOOK_FOR_NEW);
        }
    }
}

impl<I, F, St> StartedIn<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Reports that the transaction has committed. The executor that started the saga takes it and
    /// runs it, without a poll. The execution waits for its end.
    ///
    /// If another worker has taken the saga already, the execution reads its log repeatedly, at least
    /// once per second. If the transaction was rolled back, the execution returns
    /// [`NotPossible`](SagaError::NotPossible).
    pub fn committed(self) -> Execution {
        let Self { executor, id } = self;
        let (reply, receiver) = oneshot::channel();
        let spawner = executor.core.config.common.spawner.clone();
        spawner.spawn(async move { executor.run_committed(id, reply).await });
        Execution::new(id, receiver)
    }
}

impl<I, F: Format, St> StartedIn<I, F, St> {
    /// Returns the id of the saga.
    #[must_use]
    pub fn id(&self) -> SagaId {
        self.id
    }
}

impl<I, F: Format, St> fmt::Debug for StartedIn<I, F, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedIn").field("id", &self.id).finish_non_exhaustive()
    }
}
