use std::fmt;
use std::time::Duration;

use buttress::{Error, ErrorKind, Reject};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};

use crate::problem::{self, FromProblem};
use crate::refusal::Refusal;
use crate::retry_after;

/// Answers refusals and timeouts as HTTP responses, for services that cannot fail (an axum route)
/// and for any other.
///
/// | kind | status | `Retry-After` |
/// |---|---|---|
/// | rate limited | 429 | when the tokens will be there; none if they never can be |
/// | timed out | 504 | none: the service may have done its work |
/// | idempotency key missing or invalid | 400 | none |
/// | idempotency key in flight | 409 | what is left of its lease |
/// | idempotency key reused for another request | 422 | none |
/// | circuit open | 503 | when it will probe; 1 if nobody knows |
/// | every other | 503 | 1 |
///
/// `Retry-After` is in whole seconds, rounded up and at least 1: never early, never zero. The body
/// is a problem document (RFC 9457, `application/problem+json`) with the members `type`, `title`,
/// `status`, `detail`, and our own `kind` ([`ErrorKind::as_str`]), `layer` (its name, if it has
/// one) and `retry_after` (seconds, if known). Callers so read names and limits of layers; where
/// they should not, answer with [`with`](Self::with). `Cache-Control: no-store` keeps caches from
/// repeating a refusal that is over.
///
/// Works with every body that is made of a `String` ([`FromProblem`]): `axum::body::Body`,
/// `Full<Bytes>`, `String`; others are made by [`with`](Self::with).
/// The response is marked with a [`Refusal`], by which classifiers further out tell it from an
/// answer of the service.
///
/// ```
/// use buttress::bulkhead::{BulkheadLayer, Config};
/// use buttress_http::Respond;
/// let layer = BulkheadLayer::new(Config::new().name("db"))?.reject(Respond);
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Respond;

impl Respond {
    /// Answers with what `respond` makes of the error, and marks that.
    ///
    /// [`Respond::response`] is at hand where only a part should differ:
    ///
    /// ```
    /// use buttress::bulkhead::BulkheadLayer;
    /// use buttress_http::Respond;
    /// use http::{HeaderValue, Response, header::SERVER};
    ///
    /// let layer = BulkheadLayer::default().reject(Respond::with(|error| {
    ///     let mut response: Response<String> = Respond.response(error);
    ///     response.headers_mut().insert(SERVER, HeaderValue::from_static("edge"));
    ///     response
    /// }));
    /// ```
    #[must_use]
    pub fn with<B, F>(respond: F) -> RespondWith<F>
    where
        F: Fn(&Error) -> Response<B>,
    {
        RespondWith { respond }
    }

    /// The marked response to `error`.
    #[must_use]
    pub fn response<B: FromProblem>(&self, error: &Error) -> Response<B> {
        let status = status(error.kind());
        let mut response = problem::of_error(status, error);
        if let Some(seconds) = seconds(status, error.retry_after()) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Refusal::mark(&mut response, error.clone());
        response
    }
}

impl<B: FromProblem, E> Reject<Response<B>, E> for Respond {
    fn reject(&self, error: Error) -> Result<Response<B>, E> {
        Ok(self.response(&error))
    }
}

/// Answers refusals and timeouts with a closure, and marks its responses with a [`Refusal`]. Made
/// by [`Respond::with`].
#[derive(Clone, Copy)]
pub struct RespondWith<F> {
    respond: F,
}

impl<B, E, F: Fn(&Error) -> Response<B>> Reject<Response<B>, E> for RespondWith<F> {
    fn reject(&self, error: Error) -> Result<Response<B>, E> {
        let mut response = (self.respond)(&error);
        Refusal::mark(&mut response, error);
        Ok(response)
    }
}

impl<F> fmt::Debug for RespondWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondWith").finish_non_exhaustive()
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::KeyMissing | ErrorKind::KeyInvalid => StatusCode::BAD_REQUEST,
        ErrorKind::KeyInFlight => StatusCode::CONFLICT,
        ErrorKind::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::NoRoute => StatusCode::NOT_FOUND,
        ErrorKind::Unauthorized => StatusCode::FORBIDDEN,
        // Also for kinds that are yet to come.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What stands in `Retry-After`.
fn seconds(status: StatusCode, known: Option<Duration>) -> Option<u64> {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Some(retry_after::seconds(known.unwrap_or_default())),
        _ => known.map(retry_after::seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::header::{CACHE_CONTROL, CONTENT_TYPE};

    use super::*;
    use crate::testing;

    fn answer(error: &Error) -> Response<String> {
        let answer: Result<_, Infallible> = Respond.reject(error.clone());
        answer.unwrap()
    }

    fn header(response: &Response<String>, name: http::HeaderName) -> Option<&str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn every_kind_has_its_status_and_its_retry_after() {
        let cases = [
            (testing::rate_limited(), 429, Some("3")),
            (testing::rate_limited_for_ever(), 429, None),
            (testing::circuit_open(), 503, Some("2")),
            (testing::circuit_forced_open(), 503, Some("1")),
            (testing::bulkhead_full("db"), 503, Some("1")),
            (testing::queue_timeout(), 503, Some("1")),
            (testing::too_many_keys(), 503, Some("1")),
            (testing::timed_out(), 504, None),
        ];
        for (error, status, retry_after) in cases {
            let response = answer(&error);
            assert_eq!(response.status(), status, "{error}");
            assert_eq!(header(&response, RETRY_AFTER), retry_after, "{error}");
        }
    }

    #[test]
    fn a_hint_of_nothing_is_written_as_one_second() {
        assert_eq!(seconds(StatusCode::TOO_MANY_REQUESTS, Some(Duration::ZERO)), Some(1));
        assert_eq!(seconds(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::ZERO)), Some(1));
    }

    #[test]
    fn the_answer_is_a_problem_document_that_no_cache_keeps() {
        let response = answer(&testing::bulkhead_full("db"));
        assert_eq!(header(&response, CONTENT_TYPE), Some("application/problem+json"));
        assert_eq!(header(&response, CACHE_CONTROL), Some("no-store"));
        assert!(response.body().contains(r#""kind":"bulkhead-full""#), "{}", response.body());
    }

    #[test]
    fn the_answer_carries_the_error_it_came_from() {
        let error = testing::rate_limited();
        assert_eq!(Refusal::of(&answer(&error)).map(Refusal::error), Some(&error));
        assert_eq!(Refusal::of(&Response::new(())), None);
    }

    #[test]
    fn a_closure_answers_as_it_likes_and_is_marked_all_the_same() {
        let rejector = Respond::with(|error| Response::new(error.layer().len()));
        let error = testing::bulkhead_full("db");
        let answer: Result<_, Infallible> = rejector.reject(error.clone());
        let answer = answer.unwrap();
        assert_eq!((answer.status(), *answer.body()), (StatusCode::OK, 2));
        assert_eq!(Refusal::of(&answer).map(Refusal::error), Some(&error));
    }
}
