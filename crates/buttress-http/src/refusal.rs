//! The mark of responses that a layer made. `respond.rs` makes them; the status of a kind is in the
//! table of `buttress::ErrorKind`.

use std::time::Duration;

use buttress::{Classify, Clock, Error, Outcome};
use http::header::RETRY_AFTER;
use http::{Extensions, Response};

use crate::grpc::Pushback;
use crate::head::Head;
use crate::retry_after;

/// A mark on a response that a buttress layer made. A response without the mark is from the
/// service.
///
/// [`Respond`](crate::Respond), [`RespondWith`](crate::RespondWith) and
/// [`RespondGrpc`](crate::grpc::RespondGrpc) put the mark into the extensions of the response. Classifiers further out look for it. The mark never leaves the
/// process.
///
/// ```
/// use buttress_http::Refusal;
/// fn was_refused<B>(response: &http::Response<B>) -> Option<&buttress::Error> {
///     Refusal::of(response).map(Refusal::error)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal(Error);

impl Refusal {
    /// Returns the mark of `response`, if it has one.
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> Option<&Self> {
        Self::among(response.extensions())
    }

    pub(crate) fn among(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Returns the refusal or timeout that the response answers.
    #[must_use]
    pub const fn error(&self) -> &Error {
        &self.0
    }

    /// Returns the verdict of `classify` on the answered error.
    pub(crate) fn judged_by(&self, classify: impl Classify<(), Error>) -> Outcome {
        classify.classify(&Err(self.0.clone()))
    }

    pub(crate) fn mark<B>(response: &mut Response<B>, error: Error) {
        response.extensions_mut().insert(Self(error));
    }
}

/// Returns the wait that the response asks for. A mark is exact, the pushback of gRPC has milliseconds, and `Retry-After`
/// has whole seconds.
pub(crate) fn hint(head: Head<'_>, clock: &Clock) -> Option<Duration> {
    match Refusal::among(head.extensions) {
        Some(refusal) => refusal.error().retry_after(),
        None => match Pushback::of(head.headers) {
            Pushback::After(wait) => Some(wait),
            Pushback::Absent | Pushback::Never => {
                retry_after::parse(head.headers.get(RETRY_AFTER)?, clock)
            }
        },
    }
}
