//! Moving sagas of another version to the version of an executor.

use std::error::Error as StdError;

use buttress::{Codec, StoreError, StoreErrorKind};

use crate::caught::caught;
use crate::saga::error::WithCauses;
use crate::saga::model::entry::Status;
use crate::saga::run::executor::Executor;
use crate::saga::store::{Moved, Page, Record, SagaId, Signal, Store};

mod check;
mod log;

pub use log::{MigratedLog, MigrationError};

/// How many sagas one query lists.
const PAGE: usize = 100;

/// The attempts to move a saga that changes during its move.
const TRIES: usize = 3;

/// The result of [`Executor::migrate`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Migration {
    /// Sagas that have the version of the executor now.
    pub moved: Vec<SagaId>,
    /// Sagas that cannot move, with the reason. They are unchanged.
    pub needs_migration: Vec<NeedsMigration>,
    /// Sagas that a live worker runs, or that changed during the move. They are unchanged: call
    /// [`migrate`](Executor::migrate) again when they wait, or when the worker of their version has shut down.
    pub busy: Vec<SagaId>,
}

/// A saga that did not move to another version. It is unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NeedsMigration {
    /// The id of the saga.
    pub saga: SagaId,
    /// The version of the saga.
    pub from: u32,
    /// The version of the executor.
    pub to: u32,
    /// The reason: the error of the user's function, or the step and its fault.
    pub why: String,
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Moves the sagas of version `from` of the definition to the version of this executor, with a function that
    /// changes their logs.
    ///
    /// Steps are mapped by their names. The entries of the log keep their times, so a saga that waits waits for the
    /// rest of its time. The `function` changes what the names do not map: see [`MigratedLog`]. It is called for each
    /// saga, and again for a saga that changes during its move, so it should have no other effect.
    ///
    /// A saga moves only if the new definition can continue it:
    ///
    /// - its input and outputs can be decoded,
    /// - each step that has begun exists, is of the same sort (an action, a wait for a time, a wait for a signal), and
    ///   comes after steps that are done,
    /// - a step that is being undone has an undo, and a saga that unwinds is not past its point of no return.
    ///
    /// The log does not record which steps have an undo. So a step that is done is undone later only if it has one in the
    /// new version.
    ///
    /// Otherwise, or if the function returns an error or panics, the saga is unchanged, and the result
    /// [lists](Migration::needs_migration) it.
    ///
    /// Each saga moves in one step of the store, under its next epoch. So a worker of the old version cannot write to
    /// its log any more. A saga that a live worker runs does not move. A saga that waits or is stuck moves without
    /// regard to its last worker. A saga that waits is due immediately, and an executor of the new version lets it wait
    /// again. Any executor of the new version takes a saga that was running or unwinding with its next
    /// [`recover`](Self::recover). A stuck saga stays stuck. Signals, a requested cancellation and the deadline stay. A
    /// saga that has ended never moves.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower::BoxError> {
    /// # use tower::{BoxError, service_fn};
    /// use std::time::Duration;
    /// use buttress_durable::saga::{Call, Config, Definition, Executor, SignalId, Status};
    ///
    /// # let notify = service_fn(async |_: Call<String>| Ok::<(), BoxError>(()));
    /// // Version 1 knows the amount only, and version 2 its currency too.
    /// let mut order = Definition::<(u32, String)>::builder("order", 2);
    /// order.step("approved").signal::<()>(|_order, ()| None);
    /// order.step("notify").action((), notify, |(_, currency), ()| currency.clone()).add();
    /// let mut before = Definition::<u32>::builder("order", 1);
    /// before.step("approval").signal::<()>(|_order, ()| None);
    ///
    /// let orders = Executor::in_memory(order.build()?, Config::new())?;
    /// let orders_before = orders.also_run(before.build()?)?;
    /// orders.keep_recovering(Duration::from_secs(10));
    /// let id = orders_before.start(990).await?.id();
    /// # tokio::time::sleep(Duration::from_secs(1)).await;
    ///
    /// let migration = orders
    ///     .migrate(1, |log| {
    ///         let cents = *log.input::<u32>()?;
    ///         log.set_input((cents, "EUR".to_owned()))?;
    ///         log.rename("approval", "approved")?;
    ///         Ok(())
    ///     })
    ///     .await?;
    /// assert_eq!((migration.moved, migration.needs_migration.len()), (vec![id], 0));
    /// orders.signal(id, "approved", (), SignalId::new(1)).await?;
    /// # tokio::time::sleep(Duration::from_secs(1)).await;
    /// let state = orders.state(id).await?.unwrap();
    /// assert_eq!((state.status, state.steps.len()), (Status::Completed, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns `Invalid` if `from` is the version of this executor or the store does not
    /// [move sagas](Store::migrates). Returns the error of the store. Sagas that moved before the error have the new
    /// version. Repeat the call for the other sagas.
    ///
    /// # Cancel safety
    /// If the future is dropped, each saga has either moved or is unchanged. Repeat the call for the other sagas.
    pub async fn migrate(
        &self,
        from: u32,
        mut function: impl FnMut(&mut MigratedLog<F>) -> Result<(), Box<dyn StdError + Send + Sync>>
        + Send,
    ) -> Result<Migration, StoreError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let name = definition.name.as_str();
        if !core.store.migrates() {
            return Err(StoreError::invalid("the store does not move sagas to another version"));
        }
        if from == definition.version {
            let why =
                format!("version {from} of \"{name}\" is the version of the executor already");
            return Err(StoreError::invalid(why));
        }
        let mut migration = Migration::default();
        for status in [Status::Running, Status::Unwinding, Status::Waiting, Status::Stuck] {
            let mut after = None;
            loop {
                let page = self.list(Page::first(PAGE).status(status).after(after)).await?;
                after = page.last().map(|saga| saga.id);
                let is_last = page.len() < PAGE;
                for saga in page {
                    if (saga.definition.as_str(), saga.version) == (name, from) {
                        self.move_saga(saga.id, from, &mut function, &mut migration).await?;
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        // A saga that was running when its status was listed may wait since.
        migration.busy.sort_unstable();
        migration.busy.dedup();
        migration.busy.retain(|saga| !migration.moved.contains(saga));
        if !migration.moved.is_empty() {
            self.wake_soon();
        }
        if let Some(first) = migration.needs_migration.first() {
            tracing::warn!(
                target: "buttress", layer = core.config.layer().as_str(), definition = name, from,
                to = definition.version, sagas = migration.needs_migration.len(), saga = %first.saga,
                why = first.why, "sagas could not move to another version"
            );
        }
        Ok(migration)
    }

    /// Moves one saga, and adds it to the result.
    async fn move_saga(
        &self,
        saga: SagaId,
        from: u32,
        function: &mut (
                 impl FnMut(&mut MigratedLog<F>) -> Result<(), Box<dyn StdError + Send + Sync>> + Send
             ),
        migration: &mut Migration,
    ) -> Result<(), StoreError> {
        let core = &self.core;
        let to = core.definition.inner.version;
        let needs = |why: String| NeedsMigration { saga, from, to, why };
        for _ in 0..TRIES {
            let record = match core.ask("loading a saga", core.store.load(saga)).await {
                Ok(Some(record)) if record.version == from && !record.status.is_ended() => record,
                // It has ended since, or another migration has moved it.
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    migration.needs_migration.push(needs(error.to_string()));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let signals = match record.signals {
                0 => Vec::new(),
                _ => core.ask("reading signals", core.store.signals(saga)).await?,
            };
            let log = match self.new_log(record, &signals, function) {
                Ok(log) => log,
                Err(why) => {
                    migration.needs_migration.push(needs(why));
                    return Ok(());
                }
            };
            match core.ask("migrating a saga", core.store.migrate(log)).await {
                Ok(Moved::Moved) => {
                    migration.moved.push(saga);
                    return Ok(());
                }
                Ok(Moved::Gone) => return Ok(()),
                Ok(Moved::Owned) => break,
                Ok(Moved::Changed) => {}
                Err(error) if error.kind() == StoreErrorKind::Invalid => {
                    migration.needs_migration.push(needs(error.to_string()));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        migration.busy.push(saga);
        Ok(())
    }

    /// Returns the log of a saga in this version, or the reason why it cannot move.
    fn new_log(
        &self,
        record: Record<F::Encoded>,
        signals: &[Signal<F::Encoded>],
        function: &mut impl FnMut(&mut MigratedLog<F>) -> Result<(), Box<dyn StdError + Send + Sync>>,
    ) -> Result<crate::saga::store::NewLog<F::Encoded>, String> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let mut log = MigratedLog::new(record, definition.codec.clone());
        let changed =
            caught(|| function(&mut log).map_err(|error| WithCauses(&*error).to_string()));
        match changed {
            Ok(changed) => changed?,
            Err(panic) => return Err(format!("the function {panic}")),
        }
        check::new_log(definition, &log, signals, core.config.common.clock.unix())
    }
}
