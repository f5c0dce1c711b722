//! The facts of each kind of answer, in one table, and the documents that have them.

use buttress::ErrorKind;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::Failed;
use crate::Body;
use crate::admission::DeniedKind;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The facts of a kind of answer.
pub(crate) struct Facts {
    status: StatusCode,
    pub(super) kind: &'static str,
    detail: &'static str,
    /// The error type of RFC 9209.
    pub(super) error: &'static str,
    /// The code of gRPC.
    grpc: i32,
}

impl Failed {
    /// Returns the facts of this kind of answer.
    pub(super) fn facts(&self) -> Facts {
        let facts = |status, kind, error, grpc, detail| Facts { status, kind, detail, error, grpc };
        match self {
            Self::NoRoute => facts(
                StatusCode::NOT_FOUND,
                "no-route",
                "http_request_error",
                12,
                "no route matches the host and path",
            ),
            Self::WrongMethod(_) => facts(
                StatusCode::METHOD_NOT_ALLOWED,
                "no-route",
                "http_request_error",
                12,
                "no route with this host and path has the method",
            ),
            Self::Path(_) => facts(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "http_request_error",
                13,
                "the path could be read in more than one way",
            ),
            Self::Coding => facts(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "http_request_error",
                13,
                "the body has a transfer coding other than chunked",
            ),
            Self::Host => facts(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "http_request_error",
                13,
                "the request does not name exactly one valid host",
            ),
            Self::Loop => facts(
                StatusCode::LOOP_DETECTED,
                "loop",
                "proxy_loop_detected",
                13,
                "the request passed through this proxy too often",
            ),
            Self::BodyTooLarge => facts(
                StatusCode::PAYLOAD_TOO_LARGE,
                "bad-request",
                "http_request_error",
                8,
                "the body of the request is too large",
            ),
            Self::BodyTooSlow => facts(
                StatusCode::REQUEST_TIMEOUT,
                "bad-request",
                "http_request_error",
                13,
                "the body of the request arrived too slowly",
            ),
            Self::BodyBroken => facts(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "http_request_error",
                13,
                "the body of the request ended too early",
            ),
            Self::Unreachable => facts(
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "connection_refused",
                14,
                "the backend cannot be reached",
            ),
            Self::Exhausted => facts(
                StatusCode::SERVICE_UNAVAILABLE,
                "at-capacity",
                "proxy_internal_error",
                8,
                "the proxy cannot open more connections",
            ),
            Self::Declined => facts(
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "destination_unavailable",
                14,
                "the backend refused the request unread",
            ),
            Self::ConnectTimedOut => facts(
                StatusCode::GATEWAY_TIMEOUT,
                "timed-out",
                "connection_timeout",
                14,
                "the backend did not accept the connection in time",
            ),
            Self::HeadTimedOut => facts(
                StatusCode::GATEWAY_TIMEOUT,
                "timed-out",
                "http_response_timeout",
                4,
                "the backend did not answer in time",
            ),
            Self::Terminated => facts(
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "connection_terminated",
                14,
                "the backend closed the connection before its answer",
            ),
            Self::BadAnswer => facts(
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "http_protocol_error",
                14,
                "the answer of the backend is invalid",
            ),
            Self::Service => facts(
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "destination_unavailable",
                14,
                "the service behind the route failed",
            ),
            Self::Denied(kind) => Facts::of_denied(*kind),
            Self::Draining => facts(
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                "proxy_internal_response",
                14,
                "the proxy is about to stop",
            ),
            Self::Refused(error) => facts(
                StatusCode::from_u16(error.kind().http_status())
                    .unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                error.kind().as_str(),
                match error.kind() {
                    ErrorKind::RateLimited | ErrorKind::TooManyKeys => "http_request_denied",
                    ErrorKind::BulkheadFull | ErrorKind::QueueTimeout => "connection_limit_reached",
                    _ => "destination_unavailable",
                },
                error.kind().grpc_code(),
                error.kind().summary(),
            ),
        }
    }
}

impl Facts {
    pub(crate) fn of_denied(kind: DeniedKind) -> Self {
        let (status, kind, error, grpc, detail) = match kind {
            DeniedKind::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "http_request_denied",
                16,
                "the credentials are missing or invalid",
            ),
            DeniedKind::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "http_request_denied",
                7,
                "the credentials do not suffice",
            ),
            DeniedKind::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "auth-unavailable",
                "proxy_internal_response",
                14,
                "the credentials cannot be checked now",
            ),
        };
        Self { status, kind, detail, error, grpc }
    }

    /// Returns a problem document (RFC 9457).
    pub(crate) fn document(&self) -> Response<Body> {
        self.document_of(self.detail)
    }

    pub(super) fn document_of(&self, why: &str) -> Response<Body> {
        problem(self.status, self.kind, why)
    }

    /// Returns a response of gRPC without messages: the status is in its head.
    pub(super) fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(GRPC_STATUS, HeaderValue::from(self.grpc));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.detail));
        response
    }
}

/// Returns a problem document that says `why`. None of its texts needs escaping.
pub(crate) fn problem(status: StatusCode, kind: &str, why: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default();
    let code = status.as_u16();
    let document = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{why}","kind":"{kind}"}}"#
    );
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
