//! The copies of requests for a `reqwest::Client`, which has its own request and response types.

use buttress::retry::CloneRequest;
use reqwest::Request;

use crate::repeat::{IdempotentRequests, is_repeatable};

/// A request whose body is a stream cannot be copied, so it gets one attempt.
impl CloneRequest<Request> for IdempotentRequests {
    fn clone_request(&self, request: &Request) -> Option<Request> {
        is_repeatable(request.method(), request.headers()).then(|| request.try_clone()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use buttress::{Classify, Outcome};
    use http::header::{CONTENT_TYPE, RETRY_AFTER};
    use reqwest::{Body, Method, Response};

    use super::*;
    use crate::{ByStatus, RetryableStatus};

    fn answer(response: http::response::Builder) -> Result<Response, Infallible> {
        Ok(response.body(String::new()).unwrap().into())
    }

    fn status(status: u16) -> Result<Response, Infallible> {
        answer(http::Response::builder().status(status))
    }

    /// The same response, as a type of `http`.
    fn plain(status: u16) -> Result<http::Response<()>, Infallible> {
        Ok(http::Response::builder().status(status).body(()).unwrap())
    }

    #[test]
    fn every_status_is_judged_as_elsewhere() {
        for code in 100..1000 {
            let (breaker, retry) = (ByStatus::route(), RetryableStatus::route());
            assert_eq!(breaker.classify(&status(code)), breaker.classify(&plain(code)), "{code}");
            assert_eq!(retry.classify(&status(code)), retry.classify(&plain(code)), "{code}");
        }
        let teapots = RetryableStatus::route().failures(|status| status == 418);
        assert_eq!(teapots.classify(&status(418)), Outcome::Failure);
        assert_eq!(teapots.classify(&status(503)), Outcome::Success);
    }

    #[test]
    fn the_hint_is_the_field() {
        let busy = answer(http::Response::builder().status(503).header(RETRY_AFTER, "7"));
        assert_eq!(ByStatus::route().retry_after(&busy), Some(Duration::from_secs(7)));
        assert_eq!(RetryableStatus::route().retry_after(&busy), Some(Duration::from_secs(7)));
        assert_eq!(RetryableStatus::route().retry_after(&status(503)), None);
    }

    #[test]
    fn a_grpc_status_is_seen() {
        let unavailable = answer(
            http::Response::builder()
                .header(CONTENT_TYPE, "application/grpc")
                .header("grpc-status", "14"),
        );
        assert_eq!(ByStatus::route().classify(&unavailable), Outcome::Failure);
        assert_eq!(RetryableStatus::route().classify(&unavailable), Outcome::Failure);
    }

    #[test]
    fn errors_are_judged_by_the_second_classifier() {
        let refused = || Err::<Response, _>(crate::testing::circuit_open());
        assert_eq!(ByStatus::client().classify(&refused()), Outcome::Ignored);
        assert_eq!(ByStatus::route().classify(&refused()), Outcome::Failure);
        let hint = RetryableStatus::client().retry_after(&refused());
        assert_eq!(hint, Some(Duration::from_millis(1500)));
    }

    fn request(method: Method) -> Request {
        let mut request = Request::new(method, "http://localhost/a?b=c".parse().unwrap());
        *request.body_mut() = Some(Body::from("body"));
        request
    }

    fn copied(request: &Request) -> bool {
        IdempotentRequests.clone_request(request).is_some()
    }

    #[test]
    fn only_what_may_be_repeated_is_copied() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(copied(&request(method.clone())), "{method}");
        }
        for method in [Method::POST, Method::PATCH, Method::CONNECT] {
            assert!(!copied(&request(method.clone())), "{method}");
            let mut keyed = request(method.clone());
            keyed.headers_mut().insert("idempotency-key", "\"8e03978e\"".parse().unwrap());
            assert!(copied(&keyed), "{method}");
        }
    }

    #[test]
    fn a_copy_is_whole() {
        let mut original = request(Method::PUT);
        original.headers_mut().append("x", "1".parse().unwrap());
        original.headers_mut().append("x", "2".parse().unwrap());
        *original.timeout_mut() = Some(Duration::from_secs(3));
        let copy = IdempotentRequests.clone_request(&original).unwrap();
        assert_eq!(copy.method(), Method::PUT);
        assert_eq!(copy.url(), original.url());
        assert_eq!(copy.headers(), original.headers());
        assert_eq!(copy.timeout(), original.timeout());
        assert_eq!(copy.body().unwrap().as_bytes(), Some(&b"body"[..]));
    }

    #[test]
    fn a_body_that_streams_is_sent_once() {
        let mut streaming = request(Method::PUT);
        *streaming.body_mut() = Some(Body::wrap(http_body_util::Empty::<bytes::Bytes>::new()));
        assert!(!copied(&streaming));
    }
}
