use std::time::Duration;

use buttress::{Classify, Clock, Error, Outcome};
use http::header::RETRY_AFTER;
use http::{Extensions, Response};

use crate::head::Head;
use crate::retry_after;

/// Marks a response as the answer of one of our own layers, not of the service behind it.
///
/// [`Respond`](crate::Respond) and [`RespondWith`](crate::RespondWith) put it into the response's
/// extensions; classifiers further out look for it. It never leaves the process.
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
    /// The mark of `response`, if it has one.
    #[must_use]
    pub fn of<B>(response: &Response<B>) -> Option<&Self> {
        Self::among(response.extensions())
    }

    pub(crate) fn among(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The refusal or timeout that was answered.
    #[must_use]
    pub const fn error(&self) -> &Error {
        &self.0
    }

    /// The verdict of `classify` on the error that was answered.
    pub(crate) fn judged_by(&self, classify: impl Classify<(), Error>) -> Outcome {
        classify.classify(&Err(self.0.clone()))
    }

    pub(crate) fn mark<B>(response: &mut Response<B>, error: Error) {
        response.extensions_mut().insert(Self(error));
    }
}

/// When the response asks to be left alone until. A mark is exact where the field, in whole seconds,
/// cannot be.
pub(crate) fn hint(head: Head<'_>, clock: &Clock) -> Option<Duration> {
    match Refusal::among(head.extensions) {
        Some(refusal) => refusal.error().retry_after(),
        None => retry_after::parse(head.headers.get(RETRY_AFTER)?, clock),
    }
}
