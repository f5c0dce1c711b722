//! [`Reject`]: converts a refusal for the caller.

use std::fmt;

use crate::vocabulary::error::Error;

/// A conversion of a refusal or a timeout into a result of the wrapped service, so that a layer never
/// changes your response or error type.
///
/// Two implementations are ready-made:
/// - [`AsError`], the default of every layer, returns the refusal as the service's error.
///   `BoxError` needs no code. Your own enum needs one `#[from] buttress::Error` variant. For a
///   client with a foreign error type, put one `.map_err(BoxError::from)` at the bottom of the
///   stack.
/// - [`as_response`] returns the refusal as a response, for services that cannot fail, such as
///   axum's.
#[diagnostic::on_unimplemented(
    message = "a refusal cannot become `Result<{Res}, {E}>` through `{Self}`",
    label = "this layer cannot return a refusal to the caller",
    note = "for your own error type, give it a variant: `#[from] buttress::Error` in an enum with `thiserror`",
    note = "for a client whose error type is not yours, add `.map_err(BoxError::from)` at the bottom of the stack",
    note = "for a service that cannot fail (an axum route), answer refusals as responses: `.reject(as_response(|refusal| ..))`, or `.http()` from buttress-http",
    note = "for gRPC (a tonic client or server), add `.grpc()` from buttress-http to the layer",
    note = "a closure in `as_response` must return the service's response type, `{Res}`"
)]
pub trait Reject<Res, E> {
    /// Returns the result for a call that a layer refused or timed out.
    fn reject(&self, error: Error) -> Result<Res, E>;
}

/// A rejector that returns a refusal as the service's own error type. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsError;

#[diagnostic::do_not_recommend]
impl<Res, E: From<Error>> Reject<Res, E> for AsError {
    #[inline]
    fn reject(&self, error: Error) -> Result<Res, E> {
        Err(E::from(error))
    }
}

/// A rejector that returns a refusal as a response. [`as_response`] makes it.
#[derive(Clone, Copy)]
pub struct AsResponse<F> {
    respond: F,
}

/// Makes a rejector that answers a refusal with the response that `respond` returns.
///
/// ```
/// use buttress::{bulkhead::BulkheadLayer, Error};
/// let layer = BulkheadLayer::default().reject(buttress::as_response(|refusal: Error| refusal.to_string()));
/// ```
pub fn as_response<Res, F>(respond: F) -> AsResponse<F>
where
    F: Fn(Error) -> Res,
{
    AsResponse { respond }
}

impl<Res, E, F: Fn(Error) -> Res> Reject<Res, E> for AsResponse<F> {
    fn reject(&self, error: Error) -> Result<Res, E> {
        Ok((self.respond)(error))
    }
}

impl<F> fmt::Debug for AsResponse<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsResponse").finish_non_exhaustive()
    }
}

/// A refusal that a response future returns without having called the service.
#[derive(Debug)]
pub(crate) struct Refused<R> {
    error: Option<Error>,
    reject: R,
}

impl<R> Refused<R> {
    #[inline]
    pub(crate) fn new(error: Error, reject: R) -> Self {
        Self { error: Some(error), reject }
    }

    /// Returns the answer once. A future that is polled again after its end gets `None`.
    #[inline]
    pub(crate) fn answer<Res, E>(&mut self) -> Option<Result<Res, E>>
    where
        R: Reject<Res, E>,
    {
        self.error.take().map(|error| self.reject.reject(error))
    }
}
