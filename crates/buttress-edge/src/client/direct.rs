//! [`Direct`]: the preset of a client, as a service.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::{Clock, InvalidConfig, circuit_breaker};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use tower::Service;

use super::error::{About, PathTemplate};
use super::{ClientError, ClientErrorKind, Config};
use crate::body::has_no_body;
use crate::caller::Subject;
use crate::exchange::Exchange;
use crate::forward::{
    Connector, Contact, Forwarder, Head, Outgoing, Sending, Stream, Upload, again,
};
use crate::headers::{Seen, hop};
use crate::numbers::{Counters, Ended, RouteStats, Tally};
use crate::path::{self, Allowed};
use crate::route_limits::Limits;
use crate::{Body, Upstream};

/// The service at the bottom of a [`ServiceClient`](super::ServiceClient): it sends requests to the endpoints. Cheap to
/// clone; clones share circuit, connections and numbers.
///
/// The target of a request is a path with an optional query. It is sent below the path of the endpoint's URL. A target
/// with an authority, or with a path that two parsers could read differently, is refused before anything is sent.
///
/// # Cancel safety
/// Dropping the response's future or its body drops the request. Other requests and the connections stay.
#[derive(Clone, Debug)]
pub struct Direct(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    forwarder: Arc<Forwarder>,
    sending: Sending,
    limits: Limits,
    head: Duration,
    idle: Duration,
    clock: Clock,
    host: Arc<str>,
    counters: Arc<Counters>,
}

impl Direct {
    pub(super) fn new(
        upstream: Upstream,
        host: &str,
        config: Config,
        connector: Connector,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        let forwarding = config.forwarding();
        let Config { total, retry, circuit, replay_buffer, .. } = config;
        let clock = || forwarding.clock.clone();
        let circuit = circuit.map(|circuit| circuit.clock(clock()).build());
        let circuit = circuit.transpose().map_err(within("circuit-breaker"))?;
        let retry = retry.map(|retry| again(retry.clock(clock())));
        let sending = Sending {
            upstream: Arc::new(upstream),
            again: retry.transpose().map_err(within("retry"))?,
            replay_buffer,
            honours_keys: true,
        };
        let circuit = circuit.map(|layer| layer.handle());
        Ok(Self(Arc::new(Shared {
            forwarder: Arc::new(Forwarder::new(&forwarding, connector)),
            sending,
            limits: Limits { circuit, time: Some(total), ..Limits::default() },
            head: forwarding.head,
            idle: forwarding.idle,
            clock: clock(),
            host: host.into(),
            counters: Arc::default(),
        })))
    }

    pub(super) fn host(&self) -> &Arc<str> {
        &self.0.host
    }

    pub(super) fn circuit(&self) -> Option<&circuit_breaker::Handle> {
        self.0.limits.circuit.as_ref()
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.0.sending.upstream
    }

    pub(super) fn stats(&self) -> RouteStats {
        self.0.counters.stats()
    }
}

/// Names the part of the configuration that is wrong.
fn within(part: &'static str) -> impl Fn(InvalidConfig) -> InvalidConfig {
    move |error| {
        let field = format!("{part}.{}", error.field());
        InvalidConfig::new(field, error.value(), error.bound())
    }
}

/// Returns the path and query of a request, below the endpoint's.
fn target(uri: &Uri) -> Result<PathAndQuery, ClientError> {
    let invalid = |what: String| ClientError::new(ClientErrorKind::Invalid, what);
    if uri.scheme().is_some() || uri.authority().is_some() {
        return Err(invalid("the target has a host: give a path".to_owned()));
    }
    let target = uri.path_and_query().cloned();
    let target = target.ok_or_else(|| invalid("the target has no path".to_owned()))?;
    match path::check(target.path().as_bytes(), Allowed::default()) {
        Ok(_) => Ok(target),
        Err(why) => Err(invalid(why.to_string())),
    }
}

impl Shared {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        let (head, body) = request.into_parts();
        let target = target(&head.uri)?;
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            let what = "the client sends no CONNECT and no TRACE";
            return Err(ClientError::new(ClientErrorKind::Invalid, what));
        }
        let mut tally = Tally::begin(&self.counters);
        let is_head = head.method == Method::HEAD;
        let contact = Arc::new(Contact::default());
        let mut asked = head;
        let passed = self.limits.pass((&self.clock, self.head), &mut asked, None::<&Subject>).await;
        let mut passed = passed.map_err(|failed| {
            tally.end(failed.ended());
            ClientError::of(failed, false)
        })?;
        let head = Head {
            method: asked.method,
            target,
            headers: own_fields(asked.headers),
            carries_context: true,
            upgrades: false,
        };
        let outgoing = Outgoing::new(body, None, &self.clock);
        let context = self.limits.within(&self.clock, buttress::context::Context::current());
        let upload = Upload::of(&outgoing);
        let send = self.forwarder.send(&self.sending, head, outgoing, Some(Arc::clone(&contact)));
        let send = pin!(context.scope(send));
        let result = passed.watch(send, upload.as_ref().map(Upload::body), &self.clock).await;
        let permit = passed.judge(&result, upload.as_ref().map(Upload::body), &self.clock);
        let response = result.map_err(|failed| {
            tally.end(failed.ended());
            ClientError::of(failed, contact.was_made())
        })?;
        let (head, Stream { body, tally: mut of_backend, lane, .. }) = response.into_parts();
        if let Some(of_backend) = &mut of_backend {
            of_backend.drops_as(Ended::Abandoned);
        }
        let body = if has_no_body(is_head, head.status) {
            Body::empty()
        } else {
            Body::timed(body, self.idle, &self.clock)
        };
        let upload = upload.filter(|upload| !upload.is_over());
        let body = body.watched(Exchange { tally, of_backend, permit, lane, upload });
        Ok(Response::from_parts(head, body))
    }
}

/// Removes the fields that a connection and its endpoint decide.
fn own_fields(mut headers: HeaderMap) -> HeaderMap {
    let seen = Seen::of(&headers);
    hop::remove(&mut headers, seen);
    headers.remove(HOST);
    // It follows from the body.
    headers.remove(CONTENT_LENGTH);
    headers
}

impl Service<Request<Body>> for Direct {
    type Response = Response<Body>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, ClientError>> + Send>>;

    /// Always ready: the future waits for an endpoint.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let method = request.method().clone();
            let path = request.extensions().get::<PathTemplate>().cloned();
            let about = || About { method, host: Arc::clone(&shared.host), path };
            let result = shared.send(request).await;
            result.map_err(|error| error.about(about))
        })
    }
}
