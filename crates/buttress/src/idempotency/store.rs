//! [`Store`]: the interface of stores for claims and results, and its types.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::key::{Fingerprint, Key};
use crate::vocabulary::id::ids;
use crate::vocabulary::store_error::StoreError;

ids! {
    /// Id of one claim on a key, drawn by the claimer. It is the fence: the store refuses
    /// operations of a claim that was taken over.
    ClaimId;
}

/// The answer of a [`Store`] to a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed<V> {
    /// The caller owns the key until the lease ends. The key was free, its result had expired, its
    /// lease had ended, or the same claim was made before.
    Owned,
    /// Another call owns the key.
    InFlight {
        /// The rest of the owner's lease, unless the owner renews it.
        lease_left: Duration,
    },
    /// The key has a result.
    Done(V),
    /// The work of the key is done, but its result was not kept.
    NotKept,
    /// The key is in flight or done for a request with another fingerprint.
    Mismatch,
}

/// Store of claims in flight and results, by key. Every operation must be atomic for each key.
///
/// A claim holds for its lease, a result for its lifetime. Both count by the store's own clock and
/// end exactly: with a lease of 10 s, the key is free 10 s later. An expired entry counts as
/// absent, removed or not. A store with a capacity may evict results, but never claims whose lease
/// has not ended. It evicts from the scopes with the most results, the oldest first, so that no
/// scope can displace the results of another.
///
/// Every future is lazy: a method whose future was never polled has no effect. A caller can
/// therefore drop an operation before it begins, and know that nothing was done. The conformance
/// suite of `buttress-sim` checks it.
pub trait Store<V>: Send + Sync + 'static {
    /// Claims `key` for a request with `fingerprint`. Repeating a claim in flight with the same id
    /// returns [`Claimed::Owned`] again, with a new lease.
    ///
    /// Two fingerprints differ only if both are present.
    fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> impl Future<Output = Result<Claimed<V>, StoreError>> + Send;

    /// Extends the lease of `claim` to `lease` from now.
    ///
    /// # Errors
    /// `Fenced` if the claim does not hold the key: it was taken over, completed or released, or
    /// does not exist. A claim whose lease has ended is renewed if no other call has taken the key
    /// over.
    fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores the result of `claim`, for `lifetime` from now. Repeating it is `Ok` while the result
    /// exists.
    ///
    /// # Errors
    /// `Fenced` as in [`renew_claim`](Self::renew_claim): nothing is stored.
    fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records that the work of `claim` is done and that its result is not kept, for `lifetime`
    /// from now. Until then, a claim on the key gets [`Claimed::NotKept`]. Repeating it is `Ok`.
    ///
    /// Default: [`renew_claim`](Self::renew_claim) for `lifetime`. The key then stays in flight, so
    /// that the work is not repeated. A store should implement this method: callers then get the
    /// exact reason.
    ///
    /// # Errors
    /// `Fenced` as in [`renew_claim`](Self::renew_claim): nothing is recorded.
    fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.renew_claim(key, claim, lifetime)
    }

    /// Frees the key if `claim` holds it in flight. Otherwise does nothing.
    fn release_claim(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the result of `claim` if it is stored. It reads back a commit of unknown outcome.
    fn outcome(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<Option<V>, StoreError>> + Send;

    /// Removes up to `limit` expired results and claims. Returns how many.
    fn sweep_expired(&self, limit: usize)
    -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Returns the operations that never wait, for stores that have them. Default: `None`.
    ///
    /// The layer then needs no future for an operation, and a dropped call frees its key
    /// immediately.
    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        None
    }

    /// Returns how many entries the store holds. Default: `None`, for a store that does not count
    /// them.
    fn size(&self) -> Option<Size> {
        None
    }
}

/// A [`Store`] that never waits. Each method does the same as the method of [`Store`] without
/// `_now`.
///
/// The layer never sweeps such a store: the store removes expired entries when claims arrive.
#[expect(missing_docs, reason = "the namesakes of a store say it")]
pub trait Immediate<V>: Send + Sync {
    fn claim_now(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<V>, StoreError>;

    fn renew_claim_now(&self, key: &Key, claim: ClaimId, lease: Duration)
    -> Result<(), StoreError>;

    fn complete_now(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Result<(), StoreError>;

    /// Default: [`renew_claim_now`](Self::renew_claim_now).
    fn complete_without_result_now(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.renew_claim_now(key, claim, lifetime)
    }

    fn release_claim_now(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError>;

    fn outcome_now(&self, key: &Key, claim: ClaimId) -> Result<Option<V>, StoreError>;

    fn sweep_expired_now(&self, limit: usize) -> Result<usize, StoreError>;
}

/// The number of entries in a [`Store`], expired or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Size {
    /// Claims in flight, of every process that uses the store.
    pub in_flight: usize,
    /// Stored results.
    pub stored: usize,
    /// Results that were evicted before they expired, because the store was full.
    pub evicted: u64,
}

/// Store that completes a claim inside the caller's own transaction `Tx`. Effect and result then
/// become durable together, or neither does.
pub trait CompleteIn<Tx, V>: Send + Sync {
    /// Stores the result like [`Store::complete`], as one statement of `tx`. The future is lazy,
    /// too.
    ///
    /// # Errors
    /// `Fenced` if the claim does not hold the key. The transaction must then be rolled back.
    fn complete_in(
        &self,
        tx: &mut Tx,
        key: &Key,
        claim: ClaimId,
        value: &V,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store shared by several layers.
impl<V, St: Store<V>> Store<V> for Arc<St> {
    fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> impl Future<Output = Result<Claimed<V>, StoreError>> + Send {
        St::claim(self, key, claim, fingerprint, lease)
    }

    fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        St::renew_claim(self, key, claim, lease)
    }

    fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        St::complete(self, key, claim, value, lifetime)
    }

    fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        St::complete_without_result(self, key, claim, lifetime)
    }

    fn release_claim(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        St::release_claim(self, key, claim)
    }

    fn outcome(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<Option<V>, StoreError>> + Send {
        St::outcome(self, key, claim)
    }

    fn sweep_expired(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        St::sweep_expired(self, limit)
    }

    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        St::immediate(self)
    }

    fn size(&self) -> Option<Size> {
        St::size(self)
    }
}

impl<Tx, V, St: CompleteIn<Tx, V>> CompleteIn<Tx, V> for Arc<St> {
    fn complete_in(
        &self,
        tx: &mut Tx,
        key: &Key,
        claim: ClaimId,
        value: &V,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        St::complete_in(self, tx, key, claim, value, lifetime)
    }
}

impl<V> fmt::Display for Claimed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owned => "owned",
            Self::InFlight { .. } => "in flight",
            Self::Done(_) => "done",
            Self::NotKept => "done, its result not kept",
            Self::Mismatch => "mismatch",
        })
    }
}
