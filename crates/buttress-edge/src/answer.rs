//! The proxy's own answers: problem documents with `Proxy-Status`, and statuses of gRPC.

use buttress_http::Respond;
use buttress_http::grpc::RespondGrpc;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode, Version, request};

use crate::Body;
use crate::admission::{Denied, DeniedKind};
use crate::headers::Seen;
use crate::numbers::{Ended, Refusal};
use crate::path::Ambiguous;

mod facts;

pub(crate) use facts::Facts;
#[cfg(feature = "registry")]
pub(crate) use facts::problem;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why the proxy answered a request itself.
#[derive(Debug)]
pub(crate) enum Failed {
    NoRoute,
    WrongMethod(Vec<Method>),
    Path(Ambiguous),
    Host,
    /// The body has another transfer coding than chunks.
    Coding,
    Loop,
    BodyTooLarge,
    /// The client sent no part of the body for too long.
    BodyTooSlow,
    /// The client's body broke off or was malformed.
    BodyBroken,
    Unreachable,
    /// No file descriptor is free for a connection to a backend.
    Exhausted,
    /// The backend refused the request unread.
    Declined,
    ConnectTimedOut,
    HeadTimedOut,
    Terminated,
    BadAnswer,
    /// The service of the route failed.
    Service,
    /// A limit of the route, or the balancer.
    Refused(buttress::Error),
    /// The admission of the route.
    Denied(DeniedKind),
    /// The request began during the drain of the listener.
    Draining,
}

impl Failed {
    /// Returns the kind, as logs and problem documents have it.
    pub(crate) fn kind(&self) -> &'static str {
        self.facts().kind
    }

    /// Returns the error type of RFC 9209, as `Proxy-Status` has it.
    pub(crate) fn error(&self) -> &'static str {
        self.facts().error
    }

    /// Returns which side ended a request that had found a route.
    pub(crate) fn ended(&self) -> Ended {
        match self {
            Self::Unreachable
            | Self::Declined
            | Self::ConnectTimedOut
            | Self::HeadTimedOut
            | Self::Terminated
            | Self::BadAnswer
            | Self::Service => Ended::Failed,
            // The client's stream broke off: the client left, or sent a malformed body.
            Self::BodyBroken => Ended::Abandoned,
            Self::Refused(error) => Ended::Refused(Refusal::of(error.kind())),
            Self::Denied(kind) => Ended::Refused(match kind {
                DeniedKind::Unauthenticated => Refusal::Unauthenticated,
                DeniedKind::Forbidden => Refusal::Forbidden,
                DeniedKind::Unavailable => Refusal::AuthUnavailable,
            }),
            Self::Exhausted => Ended::Refused(Refusal::AtCapacity),
            Self::Draining => Ended::Refused(Refusal::Draining),
            Self::Loop => Ended::Refused(Refusal::Looped),
            Self::NoRoute
            | Self::WrongMethod(_)
            | Self::Path(_)
            | Self::Host
            | Self::Coding
            | Self::BodyTooLarge
            | Self::BodyTooSlow => Ended::Refused(Refusal::BadRequest),
        }
    }

    /// Whether the rest of the request on the connection cannot be trusted or is unwanted.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::Path(_)
                | Self::Host
                | Self::Coding
                | Self::BodyTooLarge
                | Self::BodyTooSlow
                | Self::BodyBroken
        )
    }
}

/// A request that the proxy answers itself.
pub(crate) struct Stopped {
    pub failed: Failed,
    /// The answer of an [`Admit`](crate::Admit).
    response: Option<Response<Body>>,
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self { failed, response: None }
    }
}

impl From<Denied> for Stopped {
    fn from(Denied { kind, response }: Denied) -> Self {
        Self { failed: Failed::Denied(kind), response: Some(response) }
    }
}

impl Stopped {
    /// Returns the answer. It reveals the kind of the failure, and no address or text of a backend.
    pub(crate) fn answer(self, name: &str, asked: Asked) -> Response<Body> {
        let Self { failed, response } = self;
        let facts = failed.facts();
        let response = response.filter(|_| !asked.grpc);
        let mut response = match (&failed, response) {
            (_, Some(response)) => response,
            (Failed::Refused(error), None) if asked.grpc => RespondGrpc.response(error),
            (Failed::Refused(error), None) => Respond.response(error),
            _ if asked.grpc => facts.grpc(),
            (Failed::Path(why), None) => facts.document_of(&why.to_string()),
            _ => facts.document(),
        };
        let waits = match &failed {
            Failed::Refused(_) | Failed::Draining | Failed::Exhausted => !asked.grpc,
            Failed::Denied(_) => response.status() == StatusCode::SERVICE_UNAVAILABLE,
            _ => false,
        };
        let is_unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        let status = format!("{name}; error={}", facts.error);
        if let Ok(value) = HeaderValue::try_from(status) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Failed::WrongMethod(methods) = &failed {
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if let Ok(value) = HeaderValue::try_from(methods.join(", ")) {
                headers.insert(ALLOW, value);
            }
        }
        if waits && !headers.contains_key(RETRY_AFTER) {
            // The wait is unknown; 1 second is the least that the field can say.
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if is_unauthorized && !headers.contains_key(WWW_AUTHENTICATE) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if failed.closes() && asked.version != Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The facts that the form of an answer depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub version: Version,
    pub grpc: bool,
}

impl Asked {
    /// `seen` are the fields of `head`.
    pub(crate) fn of(head: &request::Parts, seen: Seen) -> Self {
        let (version, headers) = (head.version, &head.headers);
        // Only a POST is gRPC: a GET could be cached with the status 200 of its refusal.
        if head.method != Method::POST || !seen.has(Seen::CONTENT_TYPE) {
            return Self { version, grpc: false };
        }
        let grpc = b"application/grpc";
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let start = content_type.get(..grpc.len());
        Self { version, grpc: start.is_some_and(|start| start.eq_ignore_ascii_case(grpc)) }
    }
}
