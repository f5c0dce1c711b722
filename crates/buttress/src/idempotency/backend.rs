//! A [`Store`] without its type, so that layers, services and futures need no type parameter for
//! it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::identity::Identity;
use super::store::{ClaimId, Claimed, Immediate, Size, Store};
use crate::vocabulary::store_error::StoreError;

/// An operation of a store.
pub(super) type Op<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// The methods of a [`Store`], as futures that own their arguments.
pub(super) trait Backend<V>: Send + Sync {
    fn immediate(&self) -> Option<&dyn Immediate<V>>;
    fn held(&self) -> Option<Size>;
    fn begin_claim(
        self: Arc<Self>,
        identity: Identity,
        claim: ClaimId,
        lease: Duration,
    ) -> Op<Claimed<V>>;
    fn begin_renew(self: Arc<Self>, identity: Identity, claim: ClaimId, lease: Duration) -> Op<()>;
    fn begin_complete(
        self: Arc<Self>,
        identity: Identity,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Op<()>;
    fn begin_complete_without_result(
        self: Arc<Self>,
        identity: Identity,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Op<()>;
    fn begin_release(self: Arc<Self>, identity: Identity, claim: ClaimId) -> Op<()>;
    fn begin_outcome(self: Arc<Self>, identity: Identity, claim: ClaimId) -> Op<Option<V>>;
    fn begin_sweep(self: Arc<Self>, limit: usize) -> Op<usize>;
}

/// A [`Store`] of `V` as a [`Backend`].
pub(super) struct Typed<St>(pub(super) Arc<St>);

impl<V: Send + 'static, St: Store<V>> Backend<V> for Typed<St> {
    fn immediate(&self) -> Option<&dyn Immediate<V>> {
        self.0.immediate()
    }

    fn held(&self) -> Option<Size> {
        self.0.size()
    }

    fn begin_claim(
        self: Arc<Self>,
        identity: Identity,
        claim: ClaimId,
        lease: Duration,
    ) -> Op<Claimed<V>> {
        Box::pin(async move {
            let Identity { key, fingerprint } = identity;
            St::claim(&self.0, &key, claim, fingerprint, lease).await
        })
    }

    fn begin_renew(self: Arc<Self>, identity: Identity, claim: ClaimId, lease: Duration) -> Op<()> {
        Box::pin(async move { St::renew_claim(&self.0, &identity.key, claim, lease).await })
    }

    fn begin_complete(
        self: Arc<Self>,
        identity: Identity,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
    ) -> Op<()> {
        Box::pin(async move { St::complete(&self.0, &identity.key, claim, value, lifetime).await })
    }

    fn begin_complete_without_result(
        self: Arc<Self>,
        identity: Identity,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Op<()> {
        Box::pin(async move {
            St::complete_without_result(&self.0, &identity.key, claim, lifetime).await
        })
    }

    fn begin_release(self: Arc<Self>, identity: Identity, claim: ClaimId) -> Op<()> {
        Box::pin(async move { St::release_claim(&self.0, &identity.key, claim).await })
    }

    fn begin_outcome(self: Arc<Self>, identity: Identity, claim: ClaimId) -> Op<Option<V>> {
        Box::pin(async move { St::outcome(&self.0, &identity.key, claim).await })
    }

    fn begin_sweep(self: Arc<Self>, limit: usize) -> Op<usize> {
        Box::pin(async move { St::sweep_expired(&self.0, limit).await })
    }
}
