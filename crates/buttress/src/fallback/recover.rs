//! The kinds of fallback: each makes an answer from the failed result or the request.

use std::any::Any;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use crate::machinery::ended::polled_after_completion;

/// A fallback that makes an answer for a failed call. The constructors of
/// [`FallbackLayer`](super::FallbackLayer) make the implementations.
///
/// No other type can implement it. Use a service or a closure for your own fallback:
///
/// ```compile_fail
/// #[derive(Clone)]
/// struct Empty;
/// impl<Req, E> buttress::fallback::Recover<Req, String, E> for Empty {
///     type Kept = ();
///     type Future = std::future::Ready<Result<String, E>>;
///     fn keep(&self, _request: &Req) {}
///     fn recover(
///         self,
///         _value: &(dyn std::any::Any + Send + Sync),
///         (): (),
///         _: Result<String, E>,
///     ) -> Result<Self::Future, Result<String, E>> {
///         Ok(std::future::ready(Ok(String::new())))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer a `{Req}` with `Result<{Res}, {E}>`",
    label = "this fallback does not fit the service",
    note = "a value must be `Clone` and of the service's response type; a response that is not `Clone` is made by a function: `FallbackLayer::from_result(|failed: Result<{Res}, {E}>| ..)`",
    note = "for a service that cannot fail (an axum route, error `Infallible`) judge responses too: add `.http()` from buttress-http, or `.classify(..)`; `from_error` never runs there",
    note = "fallbacks that use the request (`from_request`, `service`) need a request that is `Clone`"
)]
pub trait Recover<Req, Res, E>: sealed::Kind + Sized {
    /// The kept parts of the request while the service works on it.
    type Kept;
    /// The future of the answer.
    type Future: Future<Output = Result<Res, E>>;

    /// Keeps the parts of `request` that an answer needs.
    fn keep(&self, request: &Req) -> Self::Kept;

    /// Begins the answer to a call that ended with `failed`. `value` is the value of a [`Value`]
    /// fallback, and `()` for the other kinds.
    ///
    /// # Errors
    /// Returns `failed` unchanged if this kind has no answer to it.
    fn recover(
        self,
        value: &Shareable,
        kept: Self::Kept,
        failed: Result<Res, E>,
    ) -> Begun<Self::Future, Res, E>;
}

mod sealed {
    pub trait Kind {}

    pub trait Merge<Res, E, E2> {}
}

impl<T> sealed::Kind for Value<T> {}

impl<S, M> sealed::Kind for ToService<S, M> {}

impl<Res, E, E2> sealed::Merge<Res, E, E2> for KeepPrimary {}

impl<Res, E, E2, F> sealed::Merge<Res, E, E2> for F where F: Fn(Result<Res, E>, E2) -> Result<Res, E>
{}

/// The future of an answer, or the failed result if there is none.
type Begun<F, Res, E> = Result<F, Result<Res, E>>;

/// A value, or `()`, that the services of a layer share.
pub(super) type Shareable = dyn Any + Send + Sync;

/// A fallback that answers with a value. The layer's state holds the value, and each call that
/// needs it gets a clone.
pub struct Value<T> {
    value: PhantomData<fn() -> T>,
}

impl<T> Value<T> {
    pub(super) fn new() -> Self {
        Self { value: PhantomData }
    }
}

#[diagnostic::do_not_recommend]
impl<Req, Res: Clone + 'static, E> Recover<Req, Res, E> for Value<Res> {
    type Kept = ();
    type Future = Ready<Result<Res, E>>;

    fn keep(&self, _request: &Req) {}

    fn recover(
        self,
        value: &Shareable,
        (): (),
        failed: Result<Res, E>,
    ) -> Begun<Self::Future, Res, E> {
        match value.downcast_ref::<Res>() {
            Some(value) => Ok(ready(Ok(value.clone()))),
            // The layer of a `Value<Res>` holds a `Res`. Otherwise the failure would be the answer.
            None => Err(failed),
        }
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").finish_non_exhaustive()
    }
}

/// Makes the kinds of fallback that are a function.
macro_rules! by_function {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy)]
        pub struct $name<F> {
            respond: F,
        }

        impl<F> $name<F> {
            pub(super) fn new(respond: F) -> Self {
                Self { respond }
            }
        }

        impl<F> sealed::Kind for $name<F> {}

        impl<F> fmt::Debug for $name<F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )+};
}

by_function! {
    /// A fallback that computes the answer from the error.
    FromError;

    /// A fallback that computes the answer from the failed result.
    FromResult;

    /// A fallback that computes the answer with an async function of the request and the error.
    FromRequest;
}

#[diagnostic::do_not_recommend]
impl<Req, Res, E, F: Fn(E) -> Res> Recover<Req, Res, E> for FromError<F> {
    type Kept = ();
    type Future = Ready<Result<Res, E>>;

    fn keep(&self, _request: &Req) {}

    fn recover(self, _: &Shareable, (): (), failed: Result<Res, E>) -> Begun<Self::Future, Res, E> {
        failed
            .map_or_else(|error| Ok(ready(Ok((self.respond)(error)))), |response| Err(Ok(response)))
    }
}

#[diagnostic::do_not_recommend]
impl<Req, Res, E, F> Recover<Req, Res, E> for FromResult<F>
where
    F: Fn(Result<Res, E>) -> Result<Res, E>,
{
    type Kept = ();
    type Future = Ready<Result<Res, E>>;

    fn keep(&self, _request: &Req) {}

    fn recover(self, _: &Shareable, (): (), failed: Result<Res, E>) -> Begun<Self::Future, Res, E> {
        Ok(ready((self.respond)(failed)))
    }
}

#[diagnostic::do_not_recommend]
impl<Req, Res, E, F, Fut> Recover<Req, Res, E> for FromRequest<F>
where
    Req: Clone,
    F: Fn(Req, E) -> Fut,
    Fut: Future<Output = Result<Res, E>>,
{
    type Kept = Req;
    type Future = Fut;

    fn keep(&self, request: &Req) -> Req {
        request.clone()
    }

    fn recover(self, _: &Shareable, kept: Req, failed: Result<Res, E>) -> Begun<Fut, Res, E> {
        failed.map_or_else(|error| Ok((self.respond)(kept, error)), |response| Err(Ok(response)))
    }
}

/// A fallback that sends the request to another service.
#[derive(Clone)]
pub struct ToService<S, M> {
    service: S,
    merge: M,
}

impl<S, M> ToService<S, M> {
    pub(super) fn new(service: S, merge: M) -> Self {
        Self { service, merge }
    }

    pub(super) fn merge<T>(self, merge: T) -> ToService<S, T> {
        ToService { service: self.service, merge }
    }
}

/// A function that makes the result of a call whose service and fallback both failed. Closures
/// `Fn(Result<Res, E>, E2) -> Result<Res, E>` make it from the first failure and the second error.
///
/// Only closures and [`KeepPrimary`] implement it:
///
/// ```compile_fail
/// struct Second;
/// impl<Res, E> buttress::fallback::BothFailed<Res, E, E> for Second {
///     fn merge(&self, _primary: Result<Res, E>, fallback: E) -> Result<Res, E> {
///         Err(fallback)
///     }
/// }
/// ```
pub trait BothFailed<Res, E, E2>: sealed::Merge<Res, E, E2> {
    /// Returns one result for the two failures.
    fn merge(&self, primary: Result<Res, E>, fallback: E2) -> Result<Res, E>;
}

/// A merge that returns the first failure unchanged. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepPrimary;

impl<Res, E, E2> BothFailed<Res, E, E2> for KeepPrimary {
    fn merge(&self, primary: Result<Res, E>, _fallback: E2) -> Result<Res, E> {
        primary
    }
}

impl<Res, E, E2, F> BothFailed<Res, E, E2> for F
where
    F: Fn(Result<Res, E>, E2) -> Result<Res, E>,
{
    fn merge(&self, primary: Result<Res, E>, fallback: E2) -> Result<Res, E> {
        self(primary, fallback)
    }
}

#[diagnostic::do_not_recommend]
impl<Req, Res, E, S, M> Recover<Req, Res, E> for ToService<S, M>
where
    Req: Clone,
    S: Service<Req, Response = Res>,
    M: BothFailed<Res, E, S::Error>,
{
    type Kept = Req;
    type Future = ServiceFuture<S, Req, Res, E, M>;

    fn keep(&self, request: &Req) -> Req {
        request.clone()
    }

    fn recover(
        self,
        _: &Shareable,
        kept: Req,
        failed: Result<Res, E>,
    ) -> Begun<Self::Future, Res, E> {
        Ok(ServiceFuture {
            service: self.service,
            request: Some(kept),
            response: None,
            failed: Some(failed),
            merge: self.merge,
        })
    }
}

impl<S: fmt::Debug, M> fmt::Debug for ToService<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToService").field("service", &self.service).finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a fallback service. Dropping it cancels the answer.
    #[must_use = "futures do nothing unless polled"]
    pub struct ServiceFuture<S, Req, Res, E, M>
    where
        S: Service<Req>,
    {
        service: S,
        // `None` once called.
        request: Option<Req>,
        #[pin]
        response: Option<S::Future>,
        // The first failure, until it is returned or replaced.
        failed: Option<Result<Res, E>>,
        merge: M,
    }
}

impl<S, Req, Res, E, M> Future for ServiceFuture<S, Req, Res, E, M>
where
    S: Service<Req, Response = Res>,
    M: BothFailed<Res, E, S::Error>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answered = loop {
            if let Some(response) = this.response.as_mut().as_pin_mut() {
                let answered = ready!(response.poll(cx));
                this.response.set(None);
                break answered;
            }
            if let Err(error) = ready!(this.service.poll_ready(cx)) {
                break Err(error);
            }
            // The request is taken once. From here on there is a response.
            let Some(request) = this.request.take() else {
                polled_after_completion("fallback::ServiceFuture")
            };
            this.response.set(Some(this.service.call(request)));
        };
        let Some(failed) = this.failed.take() else {
            polled_after_completion("fallback::ServiceFuture")
        };
        Poll::Ready(match answered {
            Ok(response) => Ok(response),
            Err(error) => this.merge.merge(failed, error),
        })
    }
}

impl<S: Service<Req>, Req, Res, E, M> fmt::Debug for ServiceFuture<S, Req, Res, E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceFuture").finish_non_exhaustive()
    }
}
