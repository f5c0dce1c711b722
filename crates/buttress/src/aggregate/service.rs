use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::builder::Builder;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::list::PartList;
use super::missing::Parts;
use super::shared::Shared;
use crate::vocabulary::error::Error;

/// A service that asks several services concurrently and returns their answers together. The [module](super) explains
/// the pattern.
///
/// It is always ready. Each call clones the services of the parts, waits until each is ready, and calls it. All
/// clones share one state.
pub struct Aggregate<P> {
    parts: P,
    shared: Arc<Shared>,
}

impl Aggregate<()> {
    /// Begins a definition.
    pub fn builder() -> Builder<()> {
        Builder::new()
    }
}

impl<P> Aggregate<P> {
    pub(super) fn from_parts(parts: P, shared: Arc<Shared>) -> Self {
        Self { parts, shared }
    }

    /// Returns the handle of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<P, Req> Service<Req> for Aggregate<P>
where
    P: PartList<Req, Error: From<Error>>,
{
    type Response = Parts<P::Values>;
    type Error = P::Error;
    type Future = ResponseFuture<P, Req>;

    /// Always ready: the parts are asked in the call.
    #[inline(always)]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), P::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let progress = self.shared.begin();
        let countdown = self.shared.limit.countdown(crate::context::deadline());
        ResponseFuture::new(self.parts.begin(request), progress, countdown, self.shared.clone())
    }
}

impl<P: Clone> Clone for Aggregate<P> {
    fn clone(&self) -> Self {
        Self::from_parts(self.parts.clone(), self.shared.clone())
    }
}

impl<P: fmt::Debug> fmt::Debug for Aggregate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregate")
            .field("parts", &self.parts)
            .field("handle", &self.handle())
            .finish()
    }
}
