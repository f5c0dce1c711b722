//! [`MemoryStore`]: claims and results in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::state::{Fenced, Removed, Table};
use super::store::{Claimed, Immediate, KeyClaim, Size, Store};
use crate::sync::{Mutex, lock};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::invalid_config::{InvalidConfig, check_range};
use crate::vocabulary::observe::simulated::check_clock;
use crate::vocabulary::store_error::{Answer, StoreError};

mod transaction;

pub use transaction::MemoryTransaction;

/// A [`Store`] in memory. Cheap to clone. Clones share their contents.
///
/// It holds results up to its capacity. Above the capacity it evicts the oldest result of the scope
/// with the most results. It never evicts a claim in flight: there are only as many claims as
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

    /// Creates a store for up to [`CAPACITY`](Self::CAPACITY) results. `clock` measures leases and lifetimes.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::over(clock, Self::CAPACITY)
    }

    /// Creates a store for up to `capacity` results.
    ///
    /// # Errors
    /// Returns an error for a capacity of 0, or above 2^31.
    pub fn with_capacity(clock: Clock, capacity: usize) -> Result<Self, InvalidConfig> {
        check_range("capacity", capacity, 1, 1 << 31)?;
        Ok(Self::over(clock, capacity))
    }

    fn over(clock: Clock, capacity: usize) -> Self {
        check_clock("idempotency::MemoryStore", &clock);
        let table = Mutex::new(Table::new(capacity));
        Self { inner: Arc::new(Inner { table, clock }) }
    }
}

impl<V> Default for MemoryStore<V> {
    /// Creates a store whose leases and lifetimes end by tokio's clock.
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
    fn claim_now(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<V>> {
        let now = self.inner.clock.now();
        let mut removed: Removed<V> = None;
        let claimed = lock(&self.inner.table).claim(&claim, lease, now, &mut removed);
        // The removed value is dropped here, after the lock was released.
        Ok(claimed)
    }

    fn renew_claim_now(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        let now = self.inner.clock.now();
        let renewed = lock(&self.inner.table).renew(&claim, lease, now);
        renewed.map_err(|Fenced| fenced(claim.key))
    }

    fn complete_now(&self, claim: KeyClaim<'_>, value: V, lifetime: Duration) -> Answer<()> {
        let now = self.inner.clock.now();
        let evicted = lock(&self.inner.table).complete(&claim, value, lifetime, now);
        evicted.map(drop).map_err(|Fenced| fenced(claim.key))
    }

    fn complete_without_result_now(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        let now = self.inner.clock.now();
        let evicted = lock(&self.inner.table).complete_without(&claim, lifetime, now);
        evicted.map(drop).map_err(|Fenced| fenced(claim.key))
    }

    fn release_claim_now(&self, claim: KeyClaim<'_>) -> Answer<()> {
        lock(&self.inner.table).release(&claim);
        Ok(())
    }

    fn outcome_now(&self, claim: KeyClaim<'_>) -> Answer<Option<V>> {
        let now = self.inner.clock.now();
        Ok(lock(&self.inner.table).outcome(&claim, now).cloned())
    }

    fn sweep_expired_now(&self, limit: usize) -> Answer<usize> {
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
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<V>> {
        self.claim_now(claim, lease)
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        self.renew_claim_now(claim, lease)
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: V, lifetime: Duration) -> Answer<()> {
        self.complete_now(claim, value, lifetime)
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        self.complete_without_result_now(claim, lifetime)
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        self.release_claim_now(claim)
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<V>> {
        self.outcome_now(claim)
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
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
