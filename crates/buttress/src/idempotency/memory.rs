//! [`MemoryStore`]: claims and results in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::key::{Fingerprint, Key};
use super::state::{Fenced, Removed, Table};
use super::store::{ClaimId, Claimed, Immediate, Size, Store};
use crate::sync::{Mutex, lock};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::invalid_config::{InvalidConfig, check_range};
use crate::vocabulary::store_error::StoreError;

mod transaction;

pub use transaction::MemoryTransaction;

/// A [`Store`] in memory. Cheap to clone. Clones share their contents.
///
/// It holds results up to its capacity. Above the capacity it evicts the oldest result of the scope
/// with the most results. It never evicts a claim in flight: there are only as many of those as
/// running calls. A caller that stores many results therefore loses only its own results, **if keys
/// are [scoped](Key::scoped) by caller**. A caller that can choose its scope, or open many
/// accounts, can still evict the results of other callers. A key whose result was evicted runs
/// **again**. Make the capacity larger than the number of results that all callers store in one
/// lifetime, and watch [`Size::evicted`].
///
/// An expired entry counts as absent immediately. Later claims, new results that need its place,
/// and sweeps remove it. The contents end with the process, and no other process shares them.
///
/// An operation holds a lock for about a hundred nanoseconds, and clones values under it. Keep
/// large values in an `Arc` or in `Bytes`.
pub struct MemoryStore<V> {
    inner: Arc<Inner<V>>,
}

struct Inner<V> {
    table: Mutex<Table<V>>,
    clock: Clock,
}

impl<V> MemoryStore<V> {
    /// The default capacity: the number of results.
    pub const CAPACITY: usize = 10_000;

    /// Creates a store for up to [`CAPACITY`](Self::CAPACITY) results. Leases and lifetimes count
    /// by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::over(clock, Self::CAPACITY)
    }

    /// Creates a store for up to `capacity` results.
    ///
    /// # Errors
    /// A capacity of 0, or above 2^31.
    pub fn with_capacity(clock: Clock, capacity: usize) -> Result<Self, InvalidConfig> {
        check_range("capacity", capacity, 1, 1 << 31)?;
        Ok(Self::over(clock, capacity))
    }

    fn over(clock: Clock, capacity: usize) -> Self {
        let table = Mutex::new(Table::new(capacity));
        Self { inner: Arc::new(Inner { table, clock }) }
    }
}

impl<V> Default for MemoryStore<V> {
    /// Creates a store that counts by tokio's clock.
    fn default() -> Self {
        Self::new(Clock::default())
    }
}

impl<V> Clone for MemoryStore<V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<V> fmt::Debug for MemoryStore<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = lock(&self.inner.table).size();
        f.debug_struct("MemoryStore").field("size", &size).finish_non_exhaustive()
    }
}

impl<V: Clone + Send + 'static> Immediate<V> for MemoryStore<V> {
    fn claim_now(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<V>, StoreError> {
        let now = self.inner.clock.now();
        let mut removed: Removed<V> = None;
        let claimed =
            lock(&self.inner.table).claim(key, claim, fingerprint, lease, now, &mut removed);
        // The removed value is dropped here, after the lock was released.
        Ok(claimed)
    }

    fn renew_claim_now(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let renewed = lock(&self.inner.table).renew(key, claim, lease, now);
        renewed.map_err(|Fenced| fenced(key))
    }

    fn complete_now(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let evicted = lock(&self.inner.table).complete(key, claim, value, lifetime, now);
        evicted.map(drop).map_err(|Fenced| fenced(key))
    }

    fn complete_without_result_now(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let evicted = lock(&self.inner.table).complete_without(key, claim, lifetime, now);
        evicted.map(drop).map_err(|Fenced| fenced(key))
    }

    fn release_claim_now(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        lock(&self.inner.table).release(key, claim);
        Ok(())
    }

    fn outcome_now(&self, key: &Key, claim: ClaimId) -> Result<Option<V>, StoreError> {
        let now = self.inner.clock.now();
        Ok(lock(&self.inner.table).outcome(key, claim, now).cloned())
    }

    fn sweep_expired_now(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.inner.clock.now();
        let mut removed = Vec::new();
        let mut from = Some(0);
        while let Some(place) = from {
            from = lock(&self.inner.table).sweep(place, limit, now, &mut removed);
        }
        Ok(removed.len())
    }
}

/// Each operation runs when its future is polled, as in every other store.
impl<V: Clone + Send + 'static> Store<V> for MemoryStore<V> {
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<V>, StoreError> {
        self.claim_now(key, claim, fingerprint, lease)
    }

    async fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        self.renew_claim_now(key, claim, lease)
    }

    async fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.complete_now(key, claim, value, lifetime)
    }

    async fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.complete_without_result_now(key, claim, lifetime)
    }

    async fn release_claim(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        self.release_claim_now(key, claim)
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<V>, StoreError> {
        self.outcome_now(key, claim)
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.sweep_expired_now(limit)
    }

    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        Some(self)
    }

    fn size(&self) -> Option<Size> {
        Some(lock(&self.inner.table).size())
    }
}

#[cold]
fn fenced(key: &Key) -> StoreError {
    StoreError::fenced(format!("the claim does not hold key `{key}`"))
}
