//! [`Core`]: the state that an executor shares with the sagas that run on it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::{Format, StoreError};
use tokio::sync::{Notify, Semaphore};

use crate::bounded::bounded;
use crate::saga::config::Config;
use crate::saga::define::definition::Definition;
use crate::saga::model::entry::EntryKind;
use crate::saga::run::counters::{Counter, Counters};
use crate::saga::run::drive::Control;
use crate::saga::run::lease::Lease;
use crate::saga::run::troubles::{Operation, Troubles};
use crate::saga::run::versions::Version;
use crate::saga::store::SagaId;

pub(in crate::saga) struct Core<I, F: Format, St> {
    pub definition: Definition<I, F>,
    pub store: St,
    pub config: Config,
    pub lease: Lease,
    pub troubles: Troubles,
    pub counters: Counters,
    pub active: Mutex<HashMap<SagaId, Arc<Control>>>,
    pub shutting_down: AtomicBool,
    pub shut_down: AtomicBool,
    /// Notified when a saga ends here.
    pub idle: Notify,
    /// Sagas for whose end callers wait here. Notified when the saga ends here.
    pub watched: Mutex<HashMap<SagaId, Arc<Notify>>>,
    /// Sagas that are being taken or resumed here, and the number of tasks that do so. Locked
    /// before `active`.
    pub taking: Mutex<HashMap<SagaId, u32>>,
    /// Sagas that this worker took over and cannot resume.
    pub left: Mutex<HashSet<SagaId>>,
    /// Only one recovery runs at a time: sagas that another one has taken are not registered as
    /// running yet.
    pub recovering: tokio::sync::Mutex<()>,
    /// Serialises operators' decisions.
    pub deciding: tokio::sync::Mutex<()>,
    /// Slots for sagas that were taken over and run.
    pub slots: Arc<Semaphore>,
    /// Held by each saga that was taken over, while it waits for a slot and while it runs.
    pub resumed: Arc<Resumed>,
    /// Versions of the definition whose sagas were found and logged.
    pub other_versions: Mutex<BTreeSet<u32>>,
    /// The executors of other versions that also run here. None of them holds this value.
    pub versions: Mutex<Vec<Arc<dyn Version<F>>>>,
}

impl<I, F: Format, St> Core<I, F, St> {
    /// Records that the store failed to do `operation`. Returns how long to wait before the
    /// operation is repeated; `first` is the wait after the first failure.
    pub(in crate::saga) fn store_failed(
        &self,
        operation: Operation,
        error: &StoreError,
        first: Duration,
    ) -> Duration {
        self.counters.add(Counter::StoreFailed);
        let (layer, now) = (self.config.layer().as_str(), self.config.common.clock.now());
        self.troubles.failed(layer, operation, error, first, now)
    }

    /// Records that the store did `operation`.
    pub(in crate::saga) fn store_worked(&self, operation: Operation) {
        if self.troubles.are_on() {
            let (layer, now) = (self.config.layer().as_str(), self.config.common.clock.now());
            self.troubles.worked(layer, operation, now);
        }
    }

    pub(in crate::saga) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    pub(in crate::saga) fn has_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }

    pub(in crate::saga) fn count(&self, kind: EntryKind) {
        self.counters.add(match kind {
            EntryKind::ActionDone => Counter::Executed,
            EntryKind::ActionFailed | EntryKind::ActionInDoubt => Counter::Failed,
            EntryKind::Signalled => Counter::Signalled,
            EntryKind::UndoDone => Counter::Undone,
            EntryKind::UndoFailed => Counter::UndoFailed,
            _ => return,
        });
    }

    /// Waits for the store up to the patience of a caller.
    pub(in crate::saga) async fn ask<T>(
        &self,
        what: &str,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        bounded(&self.config.common.clock, self.config.patience, what, asking).await
    }

    pub(in crate::saga) fn active(&self) -> MutexGuard<'_, HashMap<SagaId, Arc<Control>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::saga) fn taking(&self) -> MutexGuard<'_, HashMap<SagaId, u32>> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::saga) fn left(&self) -> MutexGuard<'_, HashSet<SagaId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other tasks from starting, taking or resuming a saga. Returns `None` if the saga runs
    /// here, or if another task holds it.
    pub(in crate::saga) fn reserve(self: &Arc<Self>, saga: SagaId) -> Option<Reserved<I, F, St>> {
        let mut taking = self.taking();
        if taking.contains_key(&saga) || self.active().contains_key(&saga) {
            return None;
        }
        taking.insert(saga, 1);
        Some(Reserved { core: self.clone(), saga })
    }

    /// Reserves a saga that may still run here, under an older epoch.
    pub(in crate::saga) fn reserve_again(self: &Arc<Self>, saga: SagaId) -> Reserved<I, F, St> {
        *self.taking().entry(saga).or_default() += 1;
        Reserved { core: self.clone(), saga }
    }

    pub(in crate::saga) fn ended(&self, saga: SagaId) {
        self.active().remove(&saga);
        self.idle.notify_waiters();
        if let Some(watched) = self.watched().get(&saga) {
            watched.notify_waiters();
        }
    }

    /// Returns how many sagas were taken over and have not ended here.
    pub(in crate::saga) fn resumed(&self) -> usize {
        self.resumed.count()
    }

    pub(in crate::saga) fn watched(&self) -> MutexGuard<'_, HashMap<SagaId, Arc<Notify>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the sagas that were taken over and have not ended, of all versions that an executor runs.
#[derive(Debug, Default)]
pub(in crate::saga) struct Resumed {
    tokens: Arc<()>,
}

impl Resumed {
    /// Returns a value that counts until it is dropped.
    pub(in crate::saga) fn token(&self) -> Arc<()> {
        self.tokens.clone()
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.tokens) - 1
    }
}

/// A saga that is being taken or resumed here, until this value is dropped.
pub(in crate::saga) struct Reserved<I, F: Format, St> {
    core: Arc<Core<I, F, St>>,
    saga: SagaId,
}

impl<I, F: Format, St> Drop for Reserved<I, F, St> {
    fn drop(&mut self) {
        let mut taking = self.core.taking();
        if let Some(tasks) = taking.get_mut(&self.saga) {
            *tasks -= 1;
            if *tasks == 0 {
                taking.remove(&self.saga);
            }
        }
    }
}
