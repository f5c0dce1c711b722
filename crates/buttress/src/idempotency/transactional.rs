//! [`Claim`]: stores a handler's answer in the handler's own transaction.
//!
//! The owner of a key, and whether it came with another request, is decided by `state.rs` and by the stores.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::bounded::{no_answer, within};
use super::holding::Holding;
use super::key::Key;
use super::store::{ClaimId, CompleteIn, Completion, KeyClaim};
use crate::sync::{Mutex, lock};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::store_error::StoreError;

/// A request with the claim on its key. Handlers of a
/// [transactional](super::IdempotencyLayer::transactional) layer get it.
#[derive(Debug)]
#[non_exhaustive]
pub struct WithClaim<Req, St, V> {
    /// The request.
    pub request: Req,
    /// The claim on the request's key.
    pub claim: Claim<St, V>,
}

/// The claim of a call on its key. The handler completes it in its own transaction.
pub struct Claim<St, V> {
    /// `None` for a request without a key, and for a request that runs unprotected.
    held: Option<Held<St, V>>,
}

struct Held<St, V> {
    store: Arc<St>,
    key: Key,
    claim: ClaimId,
    lifetime: Duration,
    begun: Arc<Begun<V>>,
    clock: Clock,
    patience: Duration,
}

impl<St, V> Claim<St, V> {
    /// Stores `value` as the answer of this key, as a part of `tx`. Effect and answer become
    /// durable together, or neither does.
    ///
    /// Call it before the commit. After it succeeded, the layer does not store the answer again.
    ///
    /// A request without a key has nothing to complete, and the call succeeds.
    ///
    /// # Errors
    /// Returns `Fenced` if another call has taken the key over. Other errors come from the store. A store that does not
    /// answer within [`Config::patience`](super::Config::patience) is a `Transient` error. After an error, roll the
    /// transaction back and return an error from the handler.
    ///
    /// After `Fenced`, the layer replaces the failure of the handler with
    /// [`ClaimLost`](crate::ErrorKind::ClaimLost), unless the handler has committed an earlier
    /// completion. With [`LostClaim::Answer`](super::LostClaim::Answer) the caller gets the failure.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the transaction in the state that the store's driver gives it.
    /// Roll it back.
    pub async fn complete_in<Tx>(&self, tx: &mut Tx, value: &V) -> Result<(), StoreError>
    where
        St: CompleteIn<Tx, V>,
        V: Clone,
    {
        let Some(held) = &self.held else { return Ok(()) };
        // From here on, only the store knows whether the answer was committed.
        let before = held.begun.set(Some((value.clone(), Written::Surely)));
        let claim = KeyClaim::new(&held.key, held.claim);
        let completing = held.store.complete_in(tx, Completion::new(claim, value, held.lifetime));
        let Some(done) = within(&held.clock, held.patience, completing).await else {
            // The answer may be in the transaction.
            held.begun.set(Some((value.clone(), Written::Perhaps)));
            return Err(no_answer(held.patience));
        };
        if let Err(error) = &done {
            // This call left nothing in the transaction. An earlier value may still be committed.
            held.begun.set(before);
            if error.is_fenced() {
                held.begun.refused();
            }
        }
        done
    }

    /// Returns the key. `None` for a request without a key.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        self.held.as_ref().map(|held| &held.key)
    }

    /// Returns the id of the claim, for logs. If the work is repeated, e.g. after a crash, it has
    /// another id. For the idempotency key of a downstream call use the [`key`](Self::key).
    #[must_use]
    pub fn id(&self) -> Option<ClaimId> {
        self.held.as_ref().map(|held| held.claim)
    }
}

impl<St, V> fmt::Debug for Claim<St, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("key", &self.key()).finish_non_exhaustive()
    }
}

/// Whether a value is in the transaction of its handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    Surely,
    /// The store did not answer.
    Perhaps,
}

/// The value that a handler stores in its own transaction. The claim and the layer share it.
pub(super) struct Begun<V>(Mutex<Progress<V>>);

struct Progress<V> {
    stored: Option<(V, Written)>,
    fenced: bool,
}

impl<V> Begun<V> {
    fn new() -> Self {
        Self(Mutex::new(Progress { stored: None, fenced: false }))
    }

    /// Replaces the value, and returns the previous one.
    fn set(&self, value: Option<(V, Written)>) -> Option<(V, Written)> {
        std::mem::replace(&mut lock(&self.0).stored, value)
    }

    /// Records that the store refused a completion, because the claim does not hold the key.
    fn refused(&self) {
        lock(&self.0).fenced = true;
    }

    /// Returns `true` if the handler has begun to store a value.
    pub(super) fn has_begun(&self) -> bool {
        lock(&self.0).stored.is_some()
    }

    /// Returns `true` if a transaction of the handler may hold the lock on the key's row: the handler
    /// has stored a value, or is storing it, and the store did not fail.
    pub(super) fn may_lock(&self) -> bool {
        matches!(lock(&self.0).stored, Some((_, Written::Surely)))
    }

    /// Returns the value, if the handler has begun to store one, and whether the store refused a
    /// completion.
    pub(super) fn take(&self) -> (Option<(V, Written)>, bool) {
        let mut progress = lock(&self.0);
        (progress.stored.take(), progress.fenced)
    }
}

/// The request type of a layer's inner service: [`Plain`] or [`Transactional`]. No other type can
/// implement it.
pub trait Form<Req, V>: Clone {
    /// The request of the inner service.
    type Request;

    #[doc(hidden)]
    fn form(&self, request: Req, held: sealed::Held<'_, V>) -> (Self::Request, sealed::Handed<V>);
}

/// A form that passes the request to the inner service unchanged. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain;

impl<Req, V> Form<Req, V> for Plain {
    type Request = Req;

    #[inline]
    fn form(&self, request: Req, _held: sealed::Held<'_, V>) -> (Req, sealed::Handed<V>) {
        (request, sealed::Handed(None))
    }
}

/// A form that passes a [`WithClaim`] to the inner service, which may complete the claim in its own
/// transaction.
pub struct Transactional<St> {
    pub(super) store: Arc<St>,
}

impl<Req, St, V> Form<Req, V> for Transactional<St> {
    type Request = WithClaim<Req, St, V>;

    fn form(
        &self,
        request: Req,
        sealed::Held(holding): sealed::Held<'_, V>,
    ) -> (Self::Request, sealed::Handed<V>) {
        let begun = holding.map(|_| Arc::new(Begun::new()));
        let held = holding.zip(begun.clone()).and_then(|(holding, begun)| {
            Some(Held {
                store: self.store.clone(),
                key: holding.owner().identity.key.clone(),
                claim: holding.owner().id,
                lifetime: holding.shared()?.config.result_lifetime,
                begun,
                clock: holding.shared()?.config.common.clock.clone(),
                patience: holding.shared()?.config.patience,
            })
        });
        (WithClaim { request, claim: Claim { held } }, sealed::Handed(begun))
    }
}

impl<St> Clone for Transactional<St> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone() }
    }
}

impl<St> fmt::Debug for Transactional<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional").finish_non_exhaustive()
    }
}

/// Types without a public name, so that no other crate implements [`Form`].
pub(super) mod sealed {
    use std::sync::Arc;

    use super::{Begun, Holding};

    /// The claim of a request, if it has one.
    #[expect(missing_debug_implementations, reason = "no other crate can make one")]
    pub struct Held<'a, V>(pub(in super::super) Option<&'a Holding<V>>);

    /// The place where the handler's stored value can be read.
    #[expect(missing_debug_implementations, reason = "no other crate can make one")]
    pub struct Handed<V>(pub(in super::super) Option<Arc<Begun<V>>>);
}
