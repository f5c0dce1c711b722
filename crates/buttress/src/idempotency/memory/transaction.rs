//! [`MemoryTransaction`]: results and effects that become visible together.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{MemoryStore, fenced};
use crate::idempotency::key::Key;
use crate::idempotency::store::{ClaimId, CompleteIn, Completion, KeyClaim};
use crate::sync::lock;
use crate::vocabulary::store_error::{Answer, StoreError};

impl<V> MemoryStore<V> {
    /// Begins a transaction in memory, for tests and for handlers whose effects are in memory too.
    pub fn begin(&self) -> MemoryTransaction<V> {
        MemoryTransaction { store: self.clone(), completions: Vec::new(), effects: Vec::new() }
    }
}

/// Completions and effects that take place together at the commit, or not at all.
/// [`MemoryStore::begin`] makes it. Dropping it rolls back.
#[must_use = "dropping a transaction rolls it back"]
pub struct MemoryTransaction<V> {
    store: MemoryStore<V>,
    completions: Vec<Pending<V>>,
    effects: Vec<Box<dyn FnOnce() + Send>>,
}

/// A completion that takes place at the commit.
struct Pending<V> {
    key: Key,
    id: ClaimId,
    value: V,
    lifetime: Duration,
}

impl<V> Pending<V> {
    fn claim(&self) -> KeyClaim<'_> {
        KeyClaim::new(&self.key, self.id)
    }
}

impl<V: Clone> From<Completion<'_, V>> for Pending<V> {
    fn from(Completion { claim, value, lifetime }: Completion<'_, V>) -> Self {
        Self { key: claim.key.clone(), id: claim.id, value: value.clone(), lifetime }
    }
}

impl<V> MemoryTransaction<V> {
    /// Adds an `effect` that runs at the commit. Effects run in the order in which they were added.
    pub fn on_commit(&mut self, effect: impl FnOnce() + Send + 'static) {
        self.effects.push(Box::new(effect));
    }

    /// Commits: stores the results, then runs the effects, before it returns.
    ///
    /// # Errors
    /// Returns `Fenced` if one of the completed claims has lost its key meanwhile. Nothing takes
    /// place then.
    pub fn commit(self) -> Answer<()> {
        let Self { store, completions, effects } = self;
        let now = store.inner.clock.now();
        let mut evicted = Vec::new();
        {
            let mut table = lock(&store.inner.table);
            let lost = completions.iter().find(|pending| !table.holds(&pending.claim()));
            if let Some(lost) = lost {
                return Err(fenced(&lost.key));
            }
            for Pending { key, id, value, lifetime } in completions {
                evicted.push(table.complete(&KeyClaim::new(&key, id), value, lifetime, now));
            }
        }
        drop(evicted);
        effects.into_iter().for_each(|effect| effect());
        Ok(())
    }
}

impl<V> fmt::Debug for MemoryTransaction<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransaction")
            .field("completions", &self.completions.len())
            .field("effects", &self.effects.len())
            .finish_non_exhaustive()
    }
}

impl<V: Clone + Send + 'static> CompleteIn<MemoryTransaction<V>, V> for MemoryStore<V> {
    fn complete_in(
        &self,
        tx: &mut MemoryTransaction<V>,
        completion: Completion<'_, V>,
    ) -> impl Future<Output = Answer<()>> + Send {
        // Copied here: a future that holds a reference would require `V: Sync`.
        let pending = Pending::from(completion);
        async move { self.complete_within(tx, pending) }
    }
}

impl<V: Clone> MemoryStore<V> {
    fn complete_within(&self, tx: &mut MemoryTransaction<V>, pending: Pending<V>) -> Answer<()> {
        if !Arc::ptr_eq(&self.inner, &tx.store.inner) {
            return Err(StoreError::invalid("the transaction belongs to another memory store"));
        }
        if !lock(&self.inner.table).holds(&pending.claim()) {
            return Err(fenced(&pending.key));
        }
        // A repetition: the first value of the same claim stays, as in a store.
        if tx.completions.iter().all(|known| known.claim() != pending.claim()) {
            tx.completions.push(pending);
        }
        Ok(())
    }
}
