//! The mark of responses that a layer made. `respond.rs` makes them; the status of a kind is in the
//! table of `buttress::ErrorKind`.

use buttress::{Classify, Error, Outcome};
use http::{Extensions, Response};

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
