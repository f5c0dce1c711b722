//! The claim that a call holds, and its release.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::config::Leave;
use super::identity::Identity;
use super::owner::Owner;
use super::shared::{Counter, Shared};
use super::store::ClaimId;
use crate::machinery::guard::Guard;
use crate::sync::Ordering;
use crate::vocabulary::clock;

/// The claim of a running call. Dropping it treats the key like the key of an abandoned call.
pub(super) struct Holding<V> {
    /// `None` once it is settled.
    shared: Option<Arc<Shared<V>>>,
    owner: Owner,
}

impl<V> Holding<V> {
    /// Counts the call, because the store has granted the key to `claim`.
    #[inline]
    pub(super) fn new(shared: &Arc<Shared<V>>, identity: Identity, claim: ClaimId) -> Self {
        shared.counters.add(Counter::Started);
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let owner = Owner::new(identity, claim);
        Self { shared: Some(shared.clone()), owner }
    }

    /// Makes later calls wait for this call, whose lease began at `since`, instead of asking the
    /// store. Only a call that does not end immediately needs it. A call that waits for an unlisted
    /// call asks the store at an interval, and still gets a notification of its end.
    pub(super) fn list(&mut self, since: Instant) {
        if let Some(shared) = &self.shared {
            self.owner.listed = true;
            shared.waiters.own(&self.owner, clock::after(since, shared.config.lease));
        }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(super) fn shared(&self) -> Option<&Arc<Shared<V>>> {
        self.shared.as_ref()
    }

    /// Ends the call. The caller decides about the key.
    #[inline]
    pub(super) fn end(&mut self) -> Option<Arc<Shared<V>>> {
        let shared = self.shared.take()?;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        Some(shared)
    }

    #[cold]
    #[inline(never)]
    fn abandon(&mut self) {
        let Some(shared) = self.end() else { return };
        shared.counters.add(Counter::Failed);
        let owner = &self.owner;
        if shared.config.abandoned_calls == Leave::Free {
            match shared.store.immediate() {
                Some(store) => {
                    let released = store.release_claim_now(owner.claim());
                    // Before the observer is called, because it may panic.
                    shared.waiters.left(owner);
                    shared.told("release", released);
                    return;
                }
                None => return (shared.release_later)(&shared, owner.clone()),
            }
        }
        shared.waiters.left(owner);
    }
}

impl<V> Guard for Holding<V> {
    #[inline]
    fn give_back(&mut self) {
        if self.shared.is_some() {
            self.abandon();
        }
    }
}

impl<V> Drop for Holding<V> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<V> fmt::Debug for Holding<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// A claim that is being requested. Dropping it releases a claim that may have been granted.
pub(super) struct Asking<'a, V> {
    pub shared: &'a Arc<Shared<V>>,
    pub identity: &'a Identity,
    pub claim: ClaimId,
    pub open: bool,
}

impl<V> Drop for Asking<'_, V> {
    fn drop(&mut self) {
        if self.open {
            let owner = Owner::new(self.identity.clone(), self.claim);
            (self.shared.release_later)(self.shared, owner);
        }
    }
}

/// Frees the key, and then makes the next waiter ask the store.
pub(super) fn release_later<V: Send + 'static>(shared: &Arc<Shared<V>>, owner: Owner) {
    let task = {
        let (shared, owner) = (shared.clone(), owner.clone());
        async move {
            let release = shared.attempt(|store| store.begin_release(owner.clone())).await;
            shared.waiters.left(&owner);
            shared.told("release", release);
        }
    };
    if !shared.spawn(task) {
        // The lease ends by itself.
        shared.waiters.left(&owner);
    }
}
