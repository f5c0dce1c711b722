//! The top of the stack: an optional limiter.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::rate_limit::{self, OneToken, RateLimit, RateLimitLayer};
use crate::vocabulary::reject::AsError;

/// A service with or without a limiter in front.
#[derive(Clone, Debug)]
pub enum MaybeLimited<S> {
    Limited(RateLimit<S, AsError, OneToken>),
    Free(S),
}

impl<S> MaybeLimited<S> {
    pub(super) fn new(inner: S, limiter: Option<&rate_limit::Handle>) -> Self {
        match limiter {
            Some(handle) => Self::Limited(RateLimitLayer::from_handle(handle).layer(inner)),
            None => Self::Free(inner),
        }
    }
}

impl<S, Req> Service<Req> for MaybeLimited<S>
where
    S: Service<Req>,
    S::Error: From<crate::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MaybeFuture<rate_limit::ResponseFuture<S::Future, AsError>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Limited(service) => service.poll_ready(cx),
            Self::Free(service) => service.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self {
            Self::Limited(service) => MaybeFuture::Limited { future: service.call(request) },
            Self::Free(service) => MaybeFuture::Free { future: service.call(request) },
        }
    }
}

pin_project! {
    /// The response with or without a limiter.
    #[project = MaybeProj]
    #[derive(Debug)]
    pub enum MaybeFuture<L, F> {
        Limited { #[pin] future: L },
        Free { #[pin] future: F },
    }
}

impl<L, F, T> Future for MaybeFuture<L, F>
where
    L: Future<Output = T>,
    F: Future<Output = T>,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            MaybeProj::Limited { future } => future.poll(cx),
            MaybeProj::Free { future } => future.poll(cx),
        }
    }
}
