//! What a store of claims and results must do, and the types it speaks in.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::key::{Fingerprint, Key};
use crate::vocabulary::id::ids;
use crate::vocabulary::store_error::StoreError;

ids! {
    /// One claim on a key, drawn by the claimer. It is the fence: what is done under a claim that has
    /// been taken over is refused.
    ClaimId;
}

/// What a [`Store`] answers to a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed<V> {
    /// The key was free, its result had expired, its claim's lease had run out, or the very same claim
    /// was made before: the caller owns it until the lease ends.
    Owned,
    /// Somebody else owns it.
    InFlight {
        /// What is left of the owner's lease, unless it is renewed.
        lease_left: Duration,
    },
    /// There is a result.
    Done(V),
    /// The work of the key is done, and its result was not kept.
    NotKept,
    /// The key is in flight or done for a request with another fingerprint.
    Mismatch,
}

/// Keeps claims in flight and results, by key. All of it must be atomic for each key.
///
/// A claim holds for its lease, a result for its lifetime, both counted by the store's own clock and
/// ending at the instant: with a lease of 10 s, 10 s later the key is free. What has expired is
/// treated as absent, whether or not it was swept. Capacity may evict results, but never claims whose
/// lease still runs; it takes them from the scopes that have the most, oldest first, so that no scope can
/// push the results of another out.
///
/// Every future is lazy: a method that was called, and whose future was never polled, has no effect. A caller
/// can so drop an operation before it begins, and know that nothing was done. The conformance suite of
/// `buttress-sim` checks it.
pub trait Store<V>: Send + Sync + 'static {
    /// Claims `key` for a request with `fingerprint`. Repeating a claim under the same id, still in
    /// flight, is [`Claimed::Owned`] again, with a new lease.
    ///
    /// Two fingerprints differ only if both are present.
    fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> impl Future<Output = Result<Claimed<V>, StoreError>> + Send;

    /// Lets the lease of `claim` end `lease` from now.
    ///
    /// # Errors
    /// `Fenced` if the claim does not hold the key: taken over, completed, released, or gone. A claim
    /// whose lease ran out but that nobody took over is renewed.
    fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores the result of `claim`, for `lifetime` from now. Repeating it is `Ok` while the result is
    /// there.
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

    /// Records that the work of `claim` is done and that its result is not kept, for `lifetime` from now.
    /// Until then a claim on the key is answered [`Claimed::NotKept`]. Repeating it is `Ok`.
    ///
    /// Default: [`renew_claim`](Self::renew_claim) for `lifetime`. The key is then in flight for that long, so that
    /// the work is not done again. A store should implement it: callers are told the truth then.
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

    /// Frees the key, if `claim` holds it in flight; otherwise does nothing.
    fn release_claim(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What `claim` came to: its result if it is stored. For reading back a commit of unknown outcome.
    fn outcome(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<Option<V>, StoreError>> + Send;

    /// Removes up to `limit` expired results and claims whose lease ran out; returns how many.
    fn sweep_expired(&self, limit: usize)
    -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Returns the same operations without waiting, by stores that never wait. The layer then needs
    /// no future for them, and a call that is dropped frees its key on the spot. Defaults to none.
    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        None
    }

    /// How much is held, by stores that count it. Defaults to unknown.
    fn size(&self) -> Option<Size> {
        None
    }
}

/// What a [`Store`] does, at once. Each method means what its namesake means.
///
/// The layer never sweeps such a store: it removes what has expired as claims come.
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

    /// Default: [`renew_claim_now`](Self::renew_claim_now), as its namesake.
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

/// How much a [`Store`] holds, expired or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Size {
    /// Claims in flight, of every process that uses the store.
    pub in_flight: usize,
    /// Results.
    pub stored: usize,
    /// Results that were evicted before they expired, because the store was full.
    pub evicted: u64,
}

/// Completes a claim inside the caller's own transaction `Tx`, so that effect and result become durable
/// together, or not at all.
pub trait CompleteIn<Tx, V>: Send + Sync {
    /// As [`Store::complete`], as one statement of `tx`. The future is lazy, too.
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
impl<V, S: Store<V>> Store<V> for Arc<S> {
    fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> impl Future<Output = Result<Claimed<V>, StoreError>> + Send {
        S::claim(self, key, claim, fingerprint, lease)
    }

    fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::renew_claim(self, key, claim, lease)
    }

    fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::complete(self, key, claim, value, lifetime)
    }

    fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::complete_without_result(self, key, claim, lifetime)
    }

    fn release_claim(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::release_claim(self, key, claim)
    }

    fn outcome(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<Option<V>, StoreError>> + Send {
        S::outcome(self, key, claim)
    }

    fn sweep_expired(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        S::sweep_expired(self, limit)
    }

    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        S::immediate(self)
    }

    fn size(&self) -> Option<Size> {
        S::size(self)
    }
}

impl<Tx, V, S: CompleteIn<Tx, V>> CompleteIn<Tx, V> for Arc<S> {
    fn complete_in(
        &self,
        tx: &mut Tx,
        key: &Key,
        claim: ClaimId,
        value: &V,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::complete_in(self, tx, key, claim, value, lifetime)
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
