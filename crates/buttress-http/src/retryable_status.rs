use std::fmt;
use std::time::Duration;

use buttress::{AnyError, Classify, Clock, ErrorKind, Outcome, RetryableErrors};
use http::StatusCode;

use crate::grpc::{self, Pushback};
use crate::head::{Head, HttpResponse};
use crate::refusal_mark::Refusal;
use crate::status_rules::{StatusRules, by_rules};

/// A classifier that decides by HTTP status whether a failure is worth another attempt, for
/// retries.
///
/// - 408, 425, 429, 500, 502, 503 and 504 are failures worth another attempt: they are temporary,
///   or affect one of several instances. Every other status would only be repeated.
/// - [`RetryableErrors`] judges the answers of buttress layers further in ([`Refusal`]). It does
///   not repeat the refusal of an open circuit, nor a permanent refusal. It repeats every other
///   refusal.
///   It does not repeat after the deadline of the request either. It does repeat after the time limit of
///   an attempt.
/// - gRPC answers 200 and puts the outcome into `grpc-status`. UNAVAILABLE (14) is repeated: it
///   alone means that the same call may soon succeed. RESOURCE_EXHAUSTED (8) is not repeated,
///   because it is often a daily quota or a message that is too large. DEADLINE_EXCEEDED (4) is
///   never repeated, because the caller set that deadline. The classifier sees the code in the head of
///   the response, as [`ByStatus`](crate::ByStatus) does, and never in trailers after a body. A
///   response with a body is committed: gRPC does not repeat it either.
/// - The field `grpc-retry-pushback-ms` of a gRPC response is the decision of the server (gRPC proposal A6).
///   With a number of milliseconds the call is repeated, whatever its code is, except OK and DEADLINE_EXCEEDED.
///   With a number that is negative or malformed, the call is not repeated.
/// - A second classifier, `C`, judges errors.
///
/// Its hint, the shortest wait, is the hint of the refusal, the pushback of gRPC, or the `Retry-After` of the response.
/// Whether a request may be repeated depends on the request: see
/// [`IdempotentRequests`](crate::IdempotentRequests). Every gRPC call is a `POST`, so it needs a
/// [`Repeatable`](crate::Repeatable) in its extensions.
///
/// ```
/// use buttress::retry::RetryLayer;
/// use buttress_http::{IdempotentRequests, RetryableStatus};
/// let layer = RetryLayer::default()
///     .classify(RetryableStatus::client())
///     .clone_with(IdempotentRequests);
/// ```
#[derive(Clone)]
#[must_use]
pub struct RetryableStatus<C = AnyError, F = fn(StatusCode) -> bool> {
    rules: StatusRules<C, F>,
}

impl RetryableStatus {
    /// For an axum route, and any other service that cannot fail. Repeats on every error, also on the refusal of a circuit
    /// breaker further in: in front of a client use [`client`](RetryableStatus::client).
    pub fn route() -> Self {
        let rules = StatusRules {
            errors: AnyError,
            failures: passing as fn(StatusCode) -> bool,
            grpc_failures: grpc::is_repeated,
            clock: Clock::default(),
        };
        Self { rules }
    }

    /// Judges errors by [`RetryableErrors`], which does not repeat the refusal of an open circuit.
    /// For clients whose error is `BoxError` or implements [`AsRefusal`](buttress::AsRefusal).
    pub fn client() -> RetryableStatus<RetryableErrors> {
        Self::route().errors(RetryableErrors)
    }
}

impl<C, F> RetryableStatus<C, F> {
    /// Judges errors by `classify`.
    pub fn errors<T>(self, classify: T) -> RetryableStatus<T, F> {
        RetryableStatus { rules: self.rules.errors(classify) }
    }

    /// Repeats on a status if `failures` returns `true` for it. Default: 408, 425, 429, 500, 502,
    /// 503 and 504. The closure is not called for refusals.
    pub fn failures<T>(self, failures: T) -> RetryableStatus<C, T>
    where
        T: Fn(StatusCode) -> bool,
    {
        RetryableStatus { rules: self.rules.failures(failures) }
    }
}

impl<C, F: Fn(StatusCode) -> bool> RetryableStatus<C, F> {
    /// Returns the verdict on a response.
    fn judge(&self, head: Head<'_>) -> Outcome {
        match Refusal::among(head.extensions) {
            Some(refusal) if refusal.error().kind() == ErrorKind::DeadlineExceeded => {
                Outcome::Ignored
            }
            Some(refusal) => refusal.judged_by(RetryableErrors),
            None => self.judge_answer(head),
        }
    }

    /// Returns the verdict on an answer of the service.
    fn judge_answer(&self, head: Head<'_>) -> Outcome {
        let pushback = Pushback::of(head.headers);
        if pushback == Pushback::Never {
            return Outcome::Ignored;
        }
        let is_asked_for = |code| pushback != Pushback::Absent && code != grpc::OK;
        let is_failure = |code| {
            code != grpc::DEADLINE_EXCEEDED
                && (is_asked_for(code) || (self.rules.grpc_failures)(code))
        };
        let failed =
            (self.rules.failures)(head.status) || grpc::code(head.headers).is_some_and(is_failure);
        if failed { Outcome::Failure } else { Outcome::Success }
    }
}

by_rules! {
    RetryableStatus,
    /// Repeats on a gRPC code, 0 to 16, if `failures` returns `true` for it. Default: 14. The
    /// function is called if neither the HTTP status nor pushback is a reason to repeat, and not for
    /// DEADLINE_EXCEEDED (4). An invalid code is UNKNOWN (2), as in gRPC clients.
    grpc_failures,
    {}
}

impl<C: fmt::Debug, F> fmt::Debug for RetryableStatus<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryableStatus")
            .field("errors", &self.rules.errors)
            .finish_non_exhaustive()
    }
}

fn passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http::header::RETRY_AFTER;
    use tower::BoxError;

    use super::*;
    use crate::testing::{
        self, Answer, assert_outcomes, failing_codes, failing_statuses, refused, status,
    };

    #[test]
    fn exactly_the_statuses_that_pass_are_repeated() {
        let repeated = failing_statuses(&RetryableStatus::route());
        assert_eq!(repeated, [408, 425, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn of_the_grpc_codes_only_unavailable_is_repeated_unless_said_otherwise() {
        assert_eq!(failing_codes(&RetryableStatus::route()), [14]);
        let own = RetryableStatus::route().grpc_failures(|code| code == 8 || code == 10);
        assert_eq!(failing_codes(&own), [8, 10]);
        // A rule for HTTP statuses or errors leaves the rule for gRPC unchanged.
        let own = own.failures(|status| status.as_u16() == 429).errors(AnyError);
        assert_eq!(own.classify(&testing::grpc(10)), Outcome::Failure);
        assert_eq!(own.classify(&testing::grpc(14)), Outcome::Success);
    }

    #[test]
    fn an_open_circuit_further_in_is_not_asked_again_and_other_refusals_are() {
        let cases = [
            (testing::circuit_open(), Outcome::Ignored),
            (testing::circuit_forced_open(), Outcome::Ignored),
            (testing::bulkhead_full("db"), Outcome::Failure),
            (testing::rate_limited(), Outcome::Failure),
            (testing::rate_limited_for_ever(), Outcome::Ignored),
            (testing::timed_out(), Outcome::Failure),
            (testing::no_route(), Outcome::Ignored),
        ];
        assert_outcomes(&RetryableStatus::route(), cases);
    }

    #[test]
    fn errors_go_to_the_second_classifier() {
        let open: Answer<BoxError> = Err(testing::circuit_open().into());
        let broken: Answer<BoxError> = Err("broken".into());
        assert_eq!(RetryableStatus::route().classify(&open), Outcome::Failure);
        assert_eq!(RetryableStatus::client().classify(&open), Outcome::Ignored);
        assert_eq!(RetryableStatus::client().classify(&broken), Outcome::Failure);
        let wait = Some(Duration::from_millis(1500));
        assert_eq!(RetryableStatus::client().retry_after(&open), wait);
    }

    #[test]
    fn a_closure_decides_on_statuses_alone() {
        let only_429 = RetryableStatus::route().failures(|status| status.as_u16() == 429);
        let judge = |answer: Answer<Infallible>| only_429.classify(&answer);
        assert_eq!(judge(status(429)), Outcome::Failure);
        assert_eq!(judge(status(503)), Outcome::Success);
        assert_eq!(judge(refused(&testing::bulkhead_full("db"))), Outcome::Failure);
        assert_eq!(judge(refused(&testing::circuit_open())), Outcome::Ignored);
    }

    #[test]
    fn the_hint_is_exact_from_a_mark_and_in_seconds_from_a_field() {
        let hint = |answer: Answer<BoxError>| RetryableStatus::route().retry_after(&answer);
        assert_eq!(hint(refused(&testing::rate_limited())), Some(Duration::from_millis(2500)));
        assert_eq!(hint(refused(&testing::bulkhead_full("db"))), None);
        let field =
            |text| Ok(Response::builder().header(RETRY_AFTER, text).body(String::new()).unwrap());
        assert_eq!(hint(field("7")), Some(Duration::from_secs(7)));
        assert_eq!(hint(field("soon")), None);
        assert_eq!(hint(status(503)), None);
    }
}
