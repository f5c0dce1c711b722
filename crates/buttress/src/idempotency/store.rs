//! [`Store`]: the interface of stores for claims and results, and its types.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::key::{Fingerprint, Key};
use crate::vocabulary::id::ids;
use crate::vocabulary::store_error::Answer;

ids! {
    /// The id of one claim on a key, which the claimer generates. It is the fence: the store refuses
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

/// A claim on a key, as the layer names it to a [`Store`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KeyClaim<'a> {
    /// The key.
    pub key: &'a Key,
    /// The id of the claim.
    pub id: ClaimId,
    /// The fingerprint of the claimer's request. Only [`Store::claim`] reads it.
    pub fingerprint: Option<Fingerprint>,
}

impl<'a> KeyClaim<'a> {
    /// Creates the claim `id` on `key`, without a fingerprint.
    #[must_use]
    #[inline]
    pub const fn new(key: &'a Key, id: ClaimId) -> Self {
        Self { key, id, fingerprint: None }
    }

    /// Sets the fingerprint of the claimer's request.
    #[must_use]
    #[inline]
    pub fn fingerprint(self, fingerprint: impl Into<Option<Fingerprint>>) -> Self {
        Self { fingerprint: fingerprint.into(), ..self }
    }
}

/// A result that is stored inside a caller's transaction.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion<'a, V> {
    /// The claim that the result completes.
    pub claim: KeyClaim<'a>,
    /// The result.
    pub value: &'a V,
    /// How long the result is kept.
    pub lifetime: Duration,
}

impl<'a, V> Completion<'a, V> {
    /// Creates the completion of `claim` with `value`, which is kept for `lifetime`.
    #[must_use]
    pub const fn new(claim: KeyClaim<'a>, value: &'a V, lifetime: Duration) -> Self {
        Self { claim, value, lifetime }
    }
}

/// A store of claims in flight and results, by key. Every operation must be atomic for each key.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store of results of type `{V}`",
    label = "this store cannot keep the results",
    note = "a store of bytes (SQLite, PostgreSQL, Redis) needs a codec: `buttress::idempotency::Encoded::new(store, buttress::Json)`, with the feature `json`",
    note = "for HTTP responses the codec is `buttress_http::idempotency_key::ResponseCodec`: `Encoded::new(store, ResponseCodec)`"
)]
pub trait Store<V>: Send + Sync + 'static {
    /// Claims the key, for `lease` from now. Repeating a claim in flight with the same id returns
    /// [`Claimed::Owned`] again, with a new lease.
    ///
    /// Two fingerprints differ only if both are present.
    fn claim(
        &self,
        claim: KeyClaim<'_>,
        lease: Duration,
    ) -> impl Future<Output = Answer<Claimed<V>>> + Send;

    /// Extends the lease of `claim` to `lease` from now.
    ///
    /// # Errors
    /// Returns `Fenced` if the claim does not hold the key: it was taken over, completed or
    /// released, or does not exist. A claim whose lease has ended is renewed if no other call has
    /// taken the key over.
    fn renew_claim(
        &self,
        claim: KeyClaim<'_>,
        lease: Duration,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Stores the result of `claim`, for `lifetime` from now. Repeating it is `Ok` while the result
    /// exists.
    ///
    /// # Errors
    /// Returns `Fenced` as in [`renew_claim`](Self::renew_claim): nothing is stored.
    fn complete(
        &self,
        claim: KeyClaim<'_>,
        value: V,
        lifetime: Duration,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Records that the work of `claim` is done and that its result is not kept, for `lifetime`
    /// from now. Until then, a claim on the key gets [`Claimed::NotKept`]. Repeating it is `Ok`.
    ///
    /// Default: [`renew_claim`](Self::renew_claim) for `lifetime`. The key then stays in flight, so
    /// that the work is not repeated. A store should implement this method: callers then get the
    /// exact reason.
    ///
    /// # Errors
    /// Returns `Fenced` as in [`renew_claim`](Self::renew_claim): nothing is recorded.
    fn complete_without_result(
        &self,
        claim: KeyClaim<'_>,
        lifetime: Duration,
    ) -> impl Future<Output = Answer<()>> + Send {
        self.renew_claim(claim, lifetime)
    }

    /// Frees the key if `claim` holds it in flight. Otherwise does nothing.
    fn release_claim(&self, claim: KeyClaim<'_>) -> impl Future<Output = Answer<()>> + Send;

    /// Returns the result of `claim` if it is stored. It reads back a commit of unknown outcome.
    fn outcome(&self, claim: KeyClaim<'_>) -> impl Future<Output = Answer<Option<V>>> + Send;

    /// Removes up to `limit` expired results and claims. Returns how many.
    fn sweep_expired(&self, limit: usize) -> impl Future<Output = Answer<usize>> + Send;

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
    fn claim_now(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<V>>;

    fn renew_claim_now(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()>;

    fn complete_now(&self, claim: KeyClaim<'_>, value: V, lifetime: Duration) -> Answer<()>;

    /// Default: [`renew_claim_now`](Self::renew_claim_now).
    fn complete_without_result_now(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        self.renew_claim_now(claim, lifetime)
    }

    fn release_claim_now(&self, claim: KeyClaim<'_>) -> Answer<()>;

    fn outcome_now(&self, claim: KeyClaim<'_>) -> Answer<Option<V>>;

    fn sweep_expired_now(&self, limit: usize) -> Answer<usize>;
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

/// A store that completes a claim inside the caller's own transaction `Tx`. Effect and result then
/// become durable together, or neither does.
pub trait CompleteIn<Tx, V>: Send + Sync {
    /// Stores the result like [`Store::complete`], as one statement of `tx`. The future is lazy,
    /// too.
    ///
    /// # Errors
    /// Returns `Fenced` if the claim does not hold the key. The transaction must then be rolled
    /// back.
    fn complete_in(
        &self,
        tx: &mut Tx,
        completion: Completion<'_, V>,
    ) -> impl Future<Output = Answer<()>> + Send;
}

/// A store shared by several layers.
impl<V: Send, St: Store<V>> Store<V> for Arc<St> {
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<V>> {
        St::claim(self, claim, lease).await
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        St::renew_claim(self, claim, lease).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: V, lifetime: Duration) -> Answer<()> {
        St::complete(self, claim, value, lifetime).await
    }

    async fn complete_without_result(&self, claim: KeyClaim<'_>, lifetime: Duration) -> Answer<()> {
        St::complete_without_result(self, claim, lifetime).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        St::release_claim(self, claim).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<V>> {
        St::outcome(self, claim).await
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        St::sweep_expired(self, limit).await
    }

    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        St::immediate(self)
    }

    fn size(&self) -> Option<Size> {
        St::size(self)
    }
}

impl<Tx: Send, V: Sync, St: CompleteIn<Tx, V>> CompleteIn<Tx, V> for Arc<St> {
    async fn complete_in(&self, tx: &mut Tx, completion: Completion<'_, V>) -> Answer<()> {
        St::complete_in(self, tx, completion).await
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
