use std::fmt;
use std::time::Duration;

use buttress::{AnyError, Classify, Clock, Outcome, ServiceErrors};
use http::{HeaderMap, StatusCode};

use crate::grpc;
use crate::head::{Head, HttpResponse};
use crate::hint;
use crate::refusal_mark::Refusal;
use crate::status_rules::{StatusRules, by_rules};

/// A classifier that judges the health of a service by HTTP status, for circuit breakers and
/// fallbacks.
///
/// - Ignores the answer of a buttress layer further in ([`Refusal`]), which says nothing about the
///   service. A timeout is a failure.
/// - 5xx is a failure, except 501 and 505. 501 and 505 refuse an unsupported request. One
///   caller with such requests must not open the circuit for other callers.
/// - Every other status is a success. 4xx is caused by the caller, and a 429 of the remote shows
///   that it is alive. Handle a 429 by a retry ([`RetryableStatus`](crate::RetryableStatus)) or
///   your own limiter. To count it as a failure, use `.failures(|status| ..)`.
/// - gRPC answers 200 and puts the outcome into `grpc-status`. UNKNOWN (2), DEADLINE_EXCEEDED (4),
///   INTERNAL (13), UNAVAILABLE (14) and DATA_LOSS (15) are failures: they correspond to 500, 503
///   and 504. RESOURCE_EXHAUSTED (8) and UNIMPLEMENTED (12) are successes, as 429 and 501 are. ABORTED
///   (10) is a conflict of two callers, and all other codes are caused by one caller.
/// - A second classifier, `C`, judges errors.
///
/// The classifier sees a `grpc-status` in the header of a response whose `content-type` begins with
/// `application/grpc`. Most failures of unary calls have it there, because they carry no message.
/// In trailers after a body the status comes later than the classifier is asked. A circuit breaker
/// counts it with [`BodyEnd`](crate::BodyEnd). [`judge_trailers`](Self::judge_trailers) judges it for code that reads
/// the body.
///
/// For a [balancer](buttress::balance) these responses are refusals: the answer of a buttress layer further in, except
/// timeouts; 429; RESOURCE_EXHAUSTED (8); 503 and UNAVAILABLE (14) with a hint.
///
/// Its hint is the hint of the refusal, the pushback of gRPC, or the `Retry-After` of the response. A breaker can use it
/// as its open time.
///
/// ```
/// use buttress::circuit_breaker::CircuitBreakerLayer;
/// use buttress_http::ByStatus;
///
/// // In front of an axum route, or any service whose error type carries no information:
/// let route = CircuitBreakerLayer::default().classify(ByStatus::route());
/// // In front of a client that fails with `BoxError`, which may hold a refusal:
/// let client = CircuitBreakerLayer::default().classify(ByStatus::client());
/// // In front of an object store whose 404 is a fault of the store:
/// let store = ByStatus::client().failures(|status| status.is_server_error() || status == 404);
/// ```
#[derive(Clone)]
#[must_use]
pub struct ByStatus<C = AnyError, F = fn(StatusCode) -> bool> {
    rules: StatusRules<C, F>,
    refusals: Outcome,
}

impl ByStatus {
    /// For an axum route, and any other service that cannot fail. Counts every error as a failure, also the refusal of a
    /// buttress layer further in: in front of a client use [`client`](ByStatus::client).
    pub fn route() -> Self {
        let rules = StatusRules {
            errors: AnyError,
            failures: of_the_service as fn(StatusCode) -> bool,
            grpc_failures: grpc::is_failure_of_service,
            clock: Clock::default(),
        };
        Self { rules, refusals: Outcome::Ignored }
    }

    /// Judges errors by [`ServiceErrors`], which distinguishes refusals from failures. For clients
    /// whose error is `BoxError` or implements [`AsRefusal`](buttress::AsRefusal).
    pub fn client() -> ByStatus<ServiceErrors> {
        Self::route().errors(ServiceErrors)
    }
}

impl<C, F> ByStatus<C, F> {
    /// Judges errors by `classify`.
    pub fn errors<T>(self, classify: T) -> ByStatus<T, F> {
        ByStatus { rules: self.rules.errors(classify), refusals: self.refusals }
    }

    /// Counts a status as a failure if `failures` returns `true` for it, and as a success
    /// otherwise. Default: 5xx except 501 and 505. The closure is not called for refusals.
    pub fn failures<T>(self, failures: T) -> ByStatus<C, T>
    where
        T: Fn(StatusCode) -> bool,
    {
        ByStatus { rules: self.rules.failures(failures), refusals: self.refusals }
    }

    /// Sets the outcome of an answered refusal of a layer further in. Default:
    /// [`Ignored`](Outcome::Ignored), because the refusal says nothing about the service. A
    /// fallback needs [`Failure`](Outcome::Failure), so that it answers. Timeouts are always
    /// failures.
    pub fn refusals(mut self, outcome: Outcome) -> Self {
        self.refusals = outcome;
        self
    }
}

impl<C, F> ByStatus<C, F> {
    /// Returns the verdict on the trailers of a gRPC response, for code that reads the body to its end. The head of the
    /// response had no code ([`ends_in_trailers`](crate::grpc::ends_in_trailers)). Trailers without a code are UNKNOWN
    /// (2), as in gRPC clients.
    ///
    /// ```
    /// use buttress::Outcome;
    /// use buttress_http::ByStatus;
    /// use http::{HeaderMap, HeaderValue};
    /// let mut trailers = HeaderMap::new();
    /// trailers.insert("grpc-status", HeaderValue::from_static("13"));
    /// assert_eq!(ByStatus::route().judge_trailers(&trailers), Outcome::Failure);
    /// ```
    pub fn judge_trailers(&self, trailers: &HeaderMap) -> Outcome {
        let failed = (self.rules.grpc_failures)(grpc::code_in_trailers(trailers));
        if failed { Outcome::Failure } else { Outcome::Success }
    }
}

impl<C, F: Fn(StatusCode) -> bool> ByStatus<C, F> {
    /// Returns the verdict on a response.
    fn judge(&self, head: Head<'_>) -> Outcome {
        match Refusal::among(head.extensions) {
            Some(refusal) => match refusal.judged_by(ServiceErrors) {
                Outcome::Ignored => self.refusals,
                outcome => outcome,
            },
            None if (self.rules.failures)(head.status) => Outcome::Failure,
            None if grpc::code(head.headers).is_some_and(self.rules.grpc_failures) => {
                Outcome::Failure
            }
            None => Outcome::Success,
        }
    }

    /// Whether a response is a refusal, which a service makes without work.
    fn refuses(&self, head: Head<'_>) -> bool {
        if let Some(refusal) = Refusal::among(head.extensions) {
            return refusal.judged_by(ServiceErrors) == Outcome::Ignored;
        }
        match head.status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE => hint::of(head, &self.rules.clock).is_some(),
            _ => match grpc::code(head.headers) {
                Some(grpc::RESOURCE_EXHAUSTED) => true,
                Some(grpc::UNAVAILABLE) => hint::of(head, &self.rules.clock).is_some(),
                _ => false,
            },
        }
    }
}

by_rules! {
    ByStatus,
    /// Counts a gRPC code, 0 to 16, as a failure if `failures` returns `true` for it. Default: 2,
    /// 4, 13, 14 and 15. The function is called if the HTTP status is not a failure. An invalid code
    /// is UNKNOWN (2), as in gRPC clients.
    grpc_failures,
    {
        fn is_refusal(&self, result: &Result<Res, E>) -> bool {
            match result {
                Ok(response) => self.refuses(response.head()),
                Err(_) => self.rules.errors.is_refusal(result),
            }
        }
    }
}

impl<C: fmt::Debug, F> fmt::Debug for ByStatus<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByStatus")
            .field("errors", &self.rules.errors)
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}

fn of_the_service(status: StatusCode) -> bool {
    let never_made_for_it = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
    status.is_server_error() && !never_made_for_it.contains(&status)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http::header::RETRY_AFTER;
    use tower::BoxError;

    use super::*;
    use crate::testing::{
        Answer, assert_outcomes, failing_codes, failing_statuses, refused, status,
    };
    use crate::{Respond, testing};

    const PUSHBACK: http::HeaderName = http::HeaderName::from_static("grpc-retry-pushback-ms");

    #[test]
    fn only_server_errors_that_tell_of_health_are_failures() {
        let failures = failing_statuses(&ByStatus::route());
        let expected: Vec<u16> = (500..600).filter(|code| ![501, 505].contains(code)).collect();
        assert_eq!(failures, expected);
    }

    #[test]
    fn what_is_no_failure_is_a_success() {
        for code in [100, 200, 204, 301, 400, 404, 408, 429, 501, 505, 600, 999] {
            let answer: Answer<Infallible> = status(code);
            assert_eq!(ByStatus::route().classify(&answer), Outcome::Success, "{code}");
        }
    }

    #[test]
    fn a_grpc_code_that_tells_of_health_is_a_failure_whatever_the_http_status() {
        assert_eq!(failing_codes(&ByStatus::route()), [2, 4, 13, 14, 15]);
        assert_eq!(failing_codes(&ByStatus::route().grpc_failures(|code| code == 8)), [8]);
        let mut unwell = testing::grpc(0).unwrap();
        *unwell.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(ByStatus::route().classify(&Ok::<_, Infallible>(unwell)), Outcome::Failure);
        // A rule for HTTP statuses leaves the rule for gRPC unchanged.
        let teapots = ByStatus::route().failures(|status| status == StatusCode::IM_A_TEAPOT);
        assert_eq!(teapots.classify(&testing::grpc(14)), Outcome::Failure);
        assert_eq!(teapots.errors(ServiceErrors).classify(&boxed(14)), Outcome::Failure);
    }

    fn boxed(code: u8) -> Answer<BoxError> {
        testing::grpc(code).map_err(|never| match never {})
    }

    #[test]
    fn a_refusal_further_in_is_ignored_and_a_timeout_is_not() {
        let cases = [
            (testing::bulkhead_full("db"), Outcome::Ignored),
            (testing::circuit_open(), Outcome::Ignored),
            (testing::rate_limited(), Outcome::Ignored),
            (testing::queue_timeout(), Outcome::Ignored),
            (testing::timed_out(), Outcome::Failure),
        ];
        assert_outcomes(&ByStatus::route(), cases);
    }

    #[test]
    fn a_refusal_is_known_by_its_mark_whatever_its_status() {
        let mut answer: Response<String> = Respond.response(&testing::bulkhead_full("db"));
        *answer.status_mut() = StatusCode::OK;
        let answer: Answer<Infallible> = Ok(answer);
        assert_eq!(ByStatus::route().classify(&answer), Outcome::Ignored);
        let counted = ByStatus::route().refusals(Outcome::Failure);
        assert_eq!(counted.classify(&answer), Outcome::Failure);
    }

    #[test]
    fn a_refusal_is_a_mark_or_a_status_of_a_service_at_capacity() {
        fn is(answer: Answer<BoxError>) -> bool {
            ByStatus::client().is_refusal(&answer)
        }
        let with_field = |mut answer: Answer<BoxError>, name, value| {
            let field = http::HeaderValue::from_static(value);
            answer.as_mut().unwrap().headers_mut().insert(name, field);
            answer
        };
        let seconds = |answer| with_field(answer, RETRY_AFTER, "7");
        for mark in [testing::bulkhead_full("db"), testing::circuit_open(), testing::rate_limited()]
        {
            assert!(is(refused(&mark)), "{mark}");
            let in_grpc = crate::grpc::RespondGrpc.response::<String>(&mark);
            assert!(is(Ok(in_grpc)), "{mark}");
        }
        assert!(!is(refused(&testing::timed_out())));
        assert!(is(status(429)) && is(seconds(status(503))) && is(boxed(8)));
        assert!(is(with_field(boxed(14), PUSHBACK, "20")));
        // A hint alone does not make a refusal: an answer can say when its work is done.
        let others = [200, 202, 301, 400, 404, 409, 500, 504].map(status);
        assert!(!is(status(503)) && !others.into_iter().any(|answer| is(seconds(answer))));
        assert!(!(0..=16).filter(|code| *code != 8).any(|code| is(boxed(code))));
        assert!(!is(with_field(boxed(10), PUSHBACK, "20")), "two callers, and not the service");
        assert!(is(Err(testing::bulkhead_full("db").into())) && !is(Err("broken".into())));
    }

    #[test]
    fn errors_go_to_the_second_classifier() {
        let broken: Answer<BoxError> = Err("broken".into());
        let refusal: Answer<BoxError> = Err(testing::bulkhead_full("db").into());
        assert_eq!(ByStatus::route().classify(&broken), Outcome::Failure);
        assert_eq!(ByStatus::route().classify(&refusal), Outcome::Failure);
        assert_eq!(ByStatus::client().classify(&broken), Outcome::Failure);
        assert_eq!(ByStatus::client().classify(&refusal), Outcome::Ignored);
    }

    #[test]
    fn a_closure_decides_on_statuses_alone() {
        let teapots = ByStatus::client().failures(|status| status == StatusCode::IM_A_TEAPOT);
        let judge = |answer: Answer<BoxError>| teapots.classify(&answer);
        assert_eq!(judge(status(418)), Outcome::Failure);
        assert_eq!(judge(status(500)), Outcome::Success);
        assert_eq!(judge(refused(&testing::bulkhead_full("db"))), Outcome::Ignored);
        assert_eq!(judge(Err("broken".into())), Outcome::Failure);
    }

    #[test]
    fn the_hint_is_the_marks_own_or_the_fields() {
        let hint = |answer: Answer<BoxError>| ByStatus::route().retry_after(&answer);
        assert_eq!(hint(refused(&testing::circuit_open())), Some(Duration::from_millis(1500)));
        // The answer says 1 second by default; the mark has no hint.
        assert_eq!(hint(refused(&testing::bulkhead_full("db"))), None);
        assert_eq!(hint(status(503)), None);
        let field = Response::builder().header(RETRY_AFTER, "7").body(String::new()).unwrap();
        assert_eq!(hint(Ok(field)), Some(Duration::from_secs(7)));
        assert_eq!(hint(Err("broken".into())), None);
    }
}
