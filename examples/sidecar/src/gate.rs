//! [`Gate`]: answers for the service while it is down.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Clock;
use buttress_edge::{Body, Proxy};
use buttress_http::context::{ContextLayer, ServerContext, Trust};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::{Layer, Service as TowerService};

use crate::standing::{Service, Standing};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The proxy behind a gate that is open while the service runs. A closed gate answers 503 with `Retry-After`, and a call
/// of gRPC with the status 14.
#[derive(Clone)]
pub(crate) struct Gate {
    /// Under the context of each request, so that the service gets it.
    proxy: ServerContext<Proxy>,
    standing: Standing,
    refused: Arc<AtomicU64>,
    clock: Clock,
}

impl Gate {
    /// `trust` are the callers whose context counts.
    pub(crate) fn new(proxy: Proxy, standing: Standing, trust: Trust) -> Self {
        let proxy = ContextLayer::server(trust).layer(proxy);
        Self { proxy, standing, refused: Arc::default(), clock: Clock::default() }
    }

    /// The requests that the gate has answered.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the answer to a request while the service is down.
    fn refuse(&self, is_grpc: bool) -> Response<Body> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let wait = match self.standing.service() {
            Service::Down { until } => until.saturating_duration_since(self.clock.now()),
            _ => Duration::ZERO,
        };
        down(is_grpc, wait)
    }
}

/// The answer of a service that is back after `wait`.
fn down(is_grpc: bool, wait: Duration) -> Response<Body> {
    const DOCUMENT: &str = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the service is down","kind":"service-down"}"#;
    let mut response = Response::new(Body::from(if is_grpc { "" } else { DOCUMENT }));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
        .insert(PROXY_STATUS, HeaderValue::from_static("sidecar; error=destination_unavailable"));
    if is_grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("the service is down"));
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // Rounded up, because a client that comes too early comes twice.
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

/// Whether the proxy could not connect. The child has ended then, and the supervision does not know it yet.
fn is_unconnected(response: &Response<Body>) -> bool {
    let says = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.contains("error=connection_refused"))
    };
    response.status() == StatusCode::BAD_GATEWAY
        && response.headers().get(PROXY_STATUS).is_some_and(says)
}

impl TowerService<Request<Incoming>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        TowerService::<Request<Incoming>>::poll_ready(&mut self.proxy, cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let is_grpc = is_grpc(request.headers());
        if !matches!(self.standing.service(), Service::Serving { .. }) {
            return Box::pin(ready(Ok(self.refuse(is_grpc))));
        }
        let answer = self.proxy.call(request);
        let gate = self.clone();
        Box::pin(async move {
            let response = answer.await?;
            Ok(if is_unconnected(&response) { gate.refuse(is_grpc) } else { response })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_rounded_up_and_at_least_a_second() {
        for (millis, expected) in
            [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (9999, "10"), (10_000, "10")]
        {
            let response = down(false, Duration::from_millis(millis));
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], expected, "{millis} ms");
        }
    }

    #[test]
    fn a_call_of_grpc_gets_a_status_of_grpc() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        assert!(is_grpc(&headers));
        let response = down(true, Duration::ZERO);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers().get(RETRY_AFTER), None);
    }
}
