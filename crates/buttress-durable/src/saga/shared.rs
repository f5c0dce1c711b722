//! [`Core`]: what an executor and the sagas that run on it share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use buttress::Format;
use tokio::sync::Notify;

use super::config::Config;
use super::counters::{Counter, Counters};
use super::definition::Definition;
use super::lease::Lease;
use super::run::Control;
use super::store::{EntryKind, SagaId};

pub(super) struct Core<I, F: Format, St> {
    pub(super) definition: Definition<I, F>,
    pub(super) store: St,
    pub(super) config: Config,
    pub(super) lease: Lease,
    pub(super) counters: Counters,
    pub(super) active: Mutex<HashMap<SagaId, Arc<Control>>>,
    pub(super) shutting_down: AtomicBool,
    pub(super) shut_down: AtomicBool,
    /// Told when a saga ends here.
    pub(super) idle: Notify,
    /// Sagas whose start was given up without knowing whether they are in the store, and since when.
    pub(super) doubtful: Mutex<HashMap<SagaId, Instant>>,
    /// Operators' decisions are made one after another.
    pub(super) deciding: tokio::sync::Mutex<()>,
}

/// How many starts in doubt are remembered. Those beyond are found when this worker's lease has ended.
const MOST_DOUBTFUL: usize = 10_000;

impl<I, F: Format, St> Core<I, F, St> {
    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    pub(super) fn has_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }

    pub(super) fn count(&self, kind: EntryKind) {
        self.counters.add(match kind {
            EntryKind::ActionDone => Counter::Executed,
            EntryKind::ActionFailed | EntryKind::ActionInDoubt => Counter::Failed,
            EntryKind::UndoDone => Counter::Undone,
            EntryKind::UndoFailed => Counter::UndoFailed,
            _ => return,
        });
    }

    pub(super) fn active(&self) -> MutexGuard<'_, HashMap<SagaId, Arc<Control>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn doubtful(&self) -> MutexGuard<'_, HashMap<SagaId, Instant>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody knows whether this saga is in the store.
    pub(super) fn doubt(&self, saga: SagaId) {
        let mut doubtful = self.doubtful();
        if doubtful.len() < MOST_DOUBTFUL {
            doubtful.insert(saga, self.config.clock.now());
        }
    }

    pub(super) fn ended(&self, saga: SagaId) {
        self.active().remove(&saga);
        self.idle.notify_waiters();
    }
}
