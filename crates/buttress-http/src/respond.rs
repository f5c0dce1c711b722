//! Refusals as problem documents. The status of a kind is in the table of `buttress::ErrorKind`.

use std::fmt;
use std::time::Duration;

use buttress::{Error, ErrorKind, Reject};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};

use crate::problem::{self, FromProblem};
use crate::refusal_mark::Refusal;
use crate::retry_after;

/// A rejector that answers refusals and timeouts as HTTP responses. It works for services that
/// cannot fail (an axum route) and for any other.
///
/// | kind | status | `Retry-After` |
/// |---|---|---|
/// | `circuit-open` | 503 | until the next probe; 1 if that is unknown |
/// | `rate-limited` | 429 | until the tokens are available; none if they never are |
/// | `bulkhead-full` | 503 | 1 |
/// | `queue-timeout` | 503 | 1 |
/// | `too-many-keys` | 503 | 1 |
/// | `timed-out` | 504 | none: the service may have executed the request |
/// | `deadline-exceeded` | 504 | none: the service may have executed the request |
/// | `key-missing` | 400 | none |
/// | `key-invalid` | 400 | none |
/// | `key-reused` | 422 | none |
/// | `key-in-flight` | 409 | the layer's [hint](buttress::idempotency::Config::in_flight_hint) |
/// | `result-not-kept` | 422 | none: the handler has run |
/// | `claim-lost` | 503 | 1 |
/// | `store-unavailable` | 503 | 1 |
/// | `store-failed` | 503 | 1 |
/// | `detached-full` | 503 | 1 |
/// | `shutting-down` | 503 | 1 |
/// | `no-route` | 404 | none |
/// | `unauthenticated` | 401 | none |
/// | `forbidden` | 403 | none |
/// | `auth-unavailable` | 503 | 1 |
/// | `no-backend` | 503 | 1 |
/// | `no-endpoint` | 503 | 1 |
///
/// [`ErrorKind::http_status`] returns these statuses.
///
/// `Retry-After` is in whole seconds, rounded up and at least 1: never early, never zero. A 401 has the
/// field `WWW-Authenticate: Bearer`, unless [`challenge`](Self::challenge) sets another.
///
/// The body is a problem document (RFC 9457, `application/problem+json`) with the members `type`,
/// `title`, `status`, `detail`, `kind` ([`ErrorKind::as_str`]) and `retry_after` (seconds, if
/// known). `detail` is [`ErrorKind::summary`]: the document names no layer, limit, lease or key of
/// the process. Logs and the [`Refusal`] mark have the whole error. `Cache-Control: no-store` keeps
/// caches from repeating the refusal later.
///
/// Works with every body that converts from a `String` ([`FromProblem`]): `axum::body::Body`,
/// `Full<Bytes>`, `String`. Use [`with`](Self::with) for other bodies. A [`Refusal`] marks the
/// response, so that classifiers further out can distinguish it from an answer of the service.
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
    /// Answers with the response that `respond` returns for the error, and marks it.
    ///
    /// Call [`Respond::response`] in the closure to change only a part of the answer:
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

    /// Answers as `Respond` does, with `challenge` as the `WWW-Authenticate` of a 401. Default:
    /// `Bearer`.
    ///
    /// ```
    /// use buttress_http::Respond;
    /// use http::HeaderValue;
    /// let respond = Respond.challenge(HeaderValue::from_static(r#"Bearer realm="orders""#));
    /// ```
    #[must_use]
    pub const fn challenge(self, challenge: HeaderValue) -> RespondChallenge {
        RespondChallenge { challenge }
    }

    /// Returns the marked response to `error`.
    ///
    /// A handler answers a refusal of its client with it. [`guide::service`](crate::guide::service) has such a handler.
    ///
    /// ```
    /// use buttress::AsRefusal;
    /// use buttress_http::Respond;
    /// use http::{Response, StatusCode};
    /// use tower::BoxError;
    ///
    /// fn answer(error: BoxError) -> Response<String> {
    ///     match error.as_refusal() {
    ///         Some(refusal) => Respond.response(refusal),
    ///         None => {
    ///             let mut response = Response::new(String::new());
    ///             *response.status_mut() = StatusCode::BAD_GATEWAY;
    ///             response
    ///         }
    ///     }
    /// }
    /// # let bulkhead = buttress::bulkhead::BulkheadLayer::default().handle();
    /// # bulkhead.resize(1).unwrap();
    /// # let _full = bulkhead.try_acquire().unwrap();
    /// # let refused = bulkhead.try_acquire().unwrap_err();
    /// # assert_eq!(answer(refused.into()).status(), 503);
    /// # assert_eq!(answer("reset".into()).status(), 502);
    /// ```
    #[must_use]
    pub fn response<B: FromProblem>(&self, error: &Error) -> Response<B> {
        answer(error, &BEARER)
    }
}

impl<B: FromProblem, E> Reject<Response<B>, E> for Respond {
    fn reject(&self, error: Error) -> Result<Response<B>, E> {
        Ok(self.response(&error))
    }
}

/// A rejector that answers as [`Respond`] does, with another challenge in a 401. Made by
/// [`Respond::challenge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespondChallenge {
    challenge: HeaderValue,
}

impl RespondChallenge {
    /// Returns the challenge of a 401.
    pub(crate) const fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    /// Returns the marked response to `error`.
    #[must_use]
    pub fn response<B: FromProblem>(&self, error: &Error) -> Response<B> {
        answer(error, &self.challenge)
    }
}

impl<B: FromProblem, E> Reject<Response<B>, E> for RespondChallenge {
    fn reject(&self, error: Error) -> Result<Response<B>, E> {
        Ok(self.response(&error))
    }
}

/// A rejector that answers refusals and timeouts with a closure, and marks its responses with a
/// [`Refusal`]. Made by [`Respond::with`].
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

/// The default challenge of a 401.
pub(crate) const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

fn answer<B: FromProblem>(error: &Error, challenge: &HeaderValue) -> Response<B> {
    let status = status(error.kind());
    let mut response = problem::of_error(status, error);
    let headers = response.headers_mut();
    if let Some(seconds) = seconds(status, error.retry_after()) {
        retry_after::write(headers, seconds);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, challenge.clone());
    }
    Refusal::mark(&mut response, error.clone());
    response
}

fn status(kind: ErrorKind) -> StatusCode {
    // A test checks that every status of the table is valid.
    StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns the value of `Retry-After`.
fn seconds(status: StatusCode, known: Option<Duration>) -> Option<u64> {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Some(retry_after::seconds(known.unwrap_or_default())),
        _ => known.map(retry_after::seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use buttress::gateway::Decision;
    use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};

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
            (testing::no_route(), 404, None),
            (testing::denied(Decision::Unauthenticated), 401, None),
            (testing::denied(Decision::Deny), 403, None),
        ];
        for (error, status, retry_after) in cases {
            let response = answer(&error);
            assert_eq!(response.status(), status, "{error}");
            assert_eq!(header(&response, RETRY_AFTER), retry_after, "{error}");
        }
    }

    #[test]
    fn the_documented_table_is_the_codes() {
        let rows = include_str!("respond.rs").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("/// | `")?.split('|').map(str::trim);
            Some((cells.next()?.trim_matches('`'), cells.next()?, cells.next()?))
        });
        let mut kinds = ErrorKind::ALL.iter();
        for (name, code, retry_after) in rows {
            let kind = *kinds.next().expect("a row for a kind that is none");
            assert_eq!((name, code), (kind.as_str(), &*kind.http_status().to_string()));
            assert_eq!(status(kind).as_u16(), kind.http_status());
            match seconds(status(kind), None) {
                Some(1) => {
                    assert!(retry_after.ends_with('1') || retry_after.contains("; 1 if"), "{name}");
                }
                seconds => {
                    assert_eq!(seconds, None);
                    let depends = matches!(kind, ErrorKind::RateLimited | ErrorKind::KeyInFlight);
                    assert!(depends || retry_after.starts_with("none"), "{name}");
                }
            }
        }
        assert_eq!(kinds.next(), None, "a kind without a row");
    }

    #[test]
    fn a_401_has_a_challenge_and_nothing_else_has() {
        let unknown = testing::denied(Decision::Unauthenticated);
        assert_eq!(header(&answer(&unknown), WWW_AUTHENTICATE), Some("Bearer"));
        assert_eq!(header(&answer(&testing::denied(Decision::Deny)), WWW_AUTHENTICATE), None);
        let basic = Respond.challenge(HeaderValue::from_static("Basic"));
        let answer = |error: Error| -> Response<String> {
            let answer: Result<_, Infallible> = basic.reject(error);
            answer.unwrap()
        };
        assert_eq!(header(&answer(unknown.clone()), WWW_AUTHENTICATE), Some("Basic"));
        assert_eq!(header(&answer(testing::circuit_open()), WWW_AUTHENTICATE), None);
        assert_eq!(Refusal::of(&answer(unknown.clone())).map(Refusal::error), Some(&unknown));
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
