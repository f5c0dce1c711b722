//! What the proxy answers itself: problem documents with `Proxy-Status`, and statuses of gRPC.

use buttress::ErrorKind;
use buttress_http::Respond;
use buttress_http::grpc::RespondGrpc;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{HeaderMap, Method, Response, StatusCode, Version};

use crate::Body;
use crate::numbers::Ended;
use crate::path::Ambiguous;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why the proxy answered a request itself.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Failed {
    NoRoute,
    WrongMethod(Vec<Method>),
    Path(Ambiguous),
    Host,
    Loop,
    BodyTooLarge,
    /// The client sent no part of the body for too long.
    BodyTooSlow,
    /// The client's body broke off or was malformed.
    BodyBroken,
    Unreachable,
    ConnectTimedOut,
    HeadTimedOut,
    Terminated,
    BadAnswer,
    /// A limit of the route, or the balancer.
    Refused(buttress::Error),
    /// The request began during the drain of the listener.
    Draining,
}

/// The facts of a kind of answer.
struct Facts {
    status: StatusCode,
    kind: &'static str,
    detail: &'static str,
    /// The error type of RFC 9209.
    error: &'static str,
    /// The code of gRPC.
    grpc: i32,
}

impl Failed {
    fn facts(&self) -> Facts {
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
                "the body of the request ended before its end",
            ),
            Self::Unreachable => facts(
                StatusCode::BAD_GATEWAY,
                "upstream-failed",
                "connection_refused",
                14,
                "the backend cannot be reached",
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

    /// Returns the kind, as logs and problem documents have it.
    pub(crate) fn kind(&self) -> &'static str {
        self.facts().kind
    }

    /// Returns which side ended a request that had found a route.
    pub(crate) fn ended(&self) -> Ended {
        match self {
            Self::Unreachable
            | Self::ConnectTimedOut
            | Self::HeadTimedOut
            | Self::Terminated
            | Self::BadAnswer => Ended::Failed,
            // The client's stream broke off: the client left, or sent a malformed body.
            Self::BodyBroken => Ended::Abandoned,
            _ => Ended::Refused,
        }
    }

    /// Whether the rest of the request on the connection cannot be trusted or is unwanted.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::Path(_) | Self::Host | Self::BodyTooLarge | Self::BodyTooSlow | Self::BodyBroken
        )
    }

    /// Returns the answer. It reveals the kind of the failure, and no address or text of a backend.
    pub(crate) fn answer(&self, name: &str, asked: Asked) -> Response<Body> {
        let facts = self.facts();
        let mut response = match self {
            Self::Refused(error) if asked.grpc => RespondGrpc.response(error),
            Self::Refused(error) => Respond.response(error),
            _ if asked.grpc => facts.grpc(),
            _ => facts.document(self),
        };
        let headers = response.headers_mut();
        let status = format!("{name}; error={}", facts.error);
        if let Ok(value) = HeaderValue::try_from(status) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Self::WrongMethod(methods) = self {
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if let Ok(value) = HeaderValue::try_from(methods.join(", ")) {
                headers.insert(ALLOW, value);
            }
        }
        let is_refusal = matches!(self, Self::Refused(_) | Self::Draining);
        if is_refusal && !asked.grpc && !headers.contains_key(RETRY_AFTER) {
            // The wait is unknown; 1 second is the least that the field can say.
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.closes() && asked.version != Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Facts {
    /// Returns a problem document (RFC 9457). None of its texts needs escaping.
    fn document(&self, failed: &Failed) -> Response<Body> {
        let title = self.status.canonical_reason().unwrap_or_default();
        let (status, kind) = (self.status.as_u16(), self.kind);
        let why = if let Failed::Path(why) = failed { why.to_string() } else { self.detail.into() };
        let document = format!(
            r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{why}","kind":"{kind}"}}"#
        );
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Returns a response of gRPC without messages: the status stands in its head.
    fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(self.grpc));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.detail));
        response
    }
}

/// What the form of an answer depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    pub(crate) grpc: bool,
}

impl Asked {
    pub(crate) fn of(version: Version, headers: &HeaderMap) -> Self {
        let grpc = b"application/grpc";
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let start = content_type.get(..grpc.len());
        Self { version, grpc: start.is_some_and(|start| start.eq_ignore_ascii_case(grpc)) }
    }
}
