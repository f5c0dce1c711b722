//! A [`Store`] without its type, so that layers, services and futures need no type parameter for
//! it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::owner::Owner;
use super::store::{Claimed, Immediate, Size, Store};
use crate::vocabulary::store_error::Answer;

/// An operation of a store.
pub(super) type Op<T> = Pin<Box<dyn Future<Output = Answer<T>> + Send>>;

/// The methods of a [`Store`], as futures that own their arguments.
pub(super) trait Backend<V>: Send + Sync {
    fn immediate(&self) -> Option<&dyn Immediate<V>>;
    fn held(&self) -> Option<Size>;
    fn begin_claim(self: Arc<Self>, owner: Owner, lease: Duration) -> Op<Claimed<V>>;
    fn begin_renew(self: Arc<Self>, owner: Owner, lease: Duration) -> Op<()>;
    fn begin_complete(self: Arc<Self>, owner: Owner, value: V, lifetime: Duration) -> Op<()>;
    fn begin_complete_without_result(self: Arc<Self>, owner: Owner, lifetime: Duration) -> Op<()>;
    fn begin_release(self: Arc<Self>, owner: Owner) -> Op<()>;
    fn begin_outcome(self: Arc<Self>, owner: Owner) -> Op<Option<V>>;
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

    fn begin_claim(self: Arc<Self>, owner: Owner, lease: Duration) -> Op<Claimed<V>> {
        Box::pin(async move { St::claim(&self.0, owner.claim(), lease).await })
    }

    fn begin_renew(self: Arc<Self>, owner: Owner, lease: Duration) -> Op<()> {
        Box::pin(async move { St::renew_claim(&self.0, owner.claim(), lease).await })
    }

    fn begin_complete(self: Arc<Self>, owner: Owner, value: V, lifetime: Duration) -> Op<()> {
        Box::pin(async move { St::complete(&self.0, owner.claim(), value, lifetime).await })
    }

    fn begin_complete_without_result(self: Arc<Self>, owner: Owner, lifetime: Duration) -> Op<()> {
        Box::pin(async move { St::complete_without_result(&self.0, owner.claim(), lifetime).await })
    }

    fn begin_release(self: Arc<Self>, owner: Owner) -> Op<()> {
        Box::pin(async move { St::release_claim(&self.0, owner.claim()).await })
    }

    fn begin_outcome(self: Arc<Self>, owner: Owner) -> Op<Option<V>> {
        Box::pin(async move { St::outcome(&self.0, owner.claim()).await })
    }

    fn begin_sweep(self: Arc<Self>, limit: usize) -> Op<usize> {
        Box::pin(async move { St::sweep_expired(&self.0, limit).await })
    }
}
