//! [`Log`]: a store of events, with the notifications that repositories and projections of one process share.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::batch::{AppendError, Appended, NewBatch};
use super::store::Store;

/// How many projections of a log read at the same time.
const LOADS: usize = 4;

/// A store of events that the repositories and projections of one process share: a projection reads as soon as a
/// repository of the same log has appended. Cheap to clone.
pub struct Log<St> {
    store: Arc<St>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Counts appends. A projection that waits is woken.
    appended: watch::Sender<u64>,
    loads: Semaphore,
}

impl<St> Log<St> {
    /// Creates a log over `store`. Up to 4 projections read events at the same time; the others wait, so that a
    /// restart with many projections does not take every connection of the database.
    pub fn new(store: St) -> Self {
        let shared = Shared { appended: watch::Sender::new(0), loads: Semaphore::new(LOADS) };
        Self { store: Arc::new(store), shared: Arc::new(shared) }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &St {
        &self.store
    }

    /// Reports that a transaction with appends has committed. The projections of this log then read immediately.
    ///
    /// A caller that does not call this delays projections until their next poll. No event is lost.
    pub fn committed(&self) {
        self.shared.appended.send_modify(|appends| *appends = appends.wrapping_add(1));
    }

    /// Returns a receiver that the next append notifies.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.appended.subscribe()
    }
}

impl<St: Store> Log<St> {
    /// Appends a batch by [`Store::append_batch`], and wakes the projections of this log.
    ///
    /// # Errors
    /// Returns the errors of [`Store::append_batch`].
    pub async fn append(&self, batch: &NewBatch) -> Result<Appended, AppendError> {
        let appended = self.store.append_batch(batch).await?;
        self.committed();
        Ok(appended)
    }

    /// Waits until one of the places for readers is free. The place is free again when the result is dropped.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; without a permit the read is only not counted.
        self.shared.loads.acquire().await.ok()
    }
}

impl<St> Clone for Log<St> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), shared: self.shared.clone() }
    }
}

impl<St: fmt::Debug> fmt::Debug for Log<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("store", &self.store).finish_non_exhaustive()
    }
}
