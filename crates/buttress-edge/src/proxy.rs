//! [`Proxy`]: the service that checks, routes and forwards requests.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use buttress::InvalidConfig;
use buttress::bulkhead::Permit;
use buttress_http::client_key::PeerAddr;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use tower::{BoxError, Service};

use crate::Body;
use crate::answer::{Asked, Failed};
use crate::config::Config;
use crate::forward::{Connector, Forwarder, Head, Outgoing, Stream, Upload};
use crate::headers::{forwarded, hop, via};
use crate::host;
use crate::numbers::{RouteStats, Tally};
use crate::path::{self, Allowed};
use crate::route::{Checked, Found, Route, Table};
use crate::serve::Draining;

/// The methods that a proxy can forward, for the answer to one that it cannot.
const FORWARDED: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// An HTTP gateway as a tower service: it routes requests to backends and streams their answers.
/// Cheap to clone; clones share routes and connections.
///
/// It never fails. It answers what it refuses, and what a backend failed to answer, as a problem
/// document with `Proxy-Status`, or as a gRPC status if the request is gRPC. The answer has no
/// address and no text of a backend.
///
/// The address of the peer is the extension [`PeerAddr`] of a request. Without it the proxy writes
/// no `X-Forwarded-For`.
///
/// # Cancel safety
/// Dropping the response's future or its body drops the request to the backend.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    routes: Vec<Checked>,
    table: Table,
    forwarder: Arc<Forwarder>,
    config: Config,
    via: via::Values,
    allowed: Allowed,
    /// Requests that found no route.
    unrouted: AtomicU64,
}

impl Proxy {
    /// Returns the numbers of each route, by name and in the order of the routes.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, RouteStats)> {
        let routes = self.shared.routes.iter();
        routes.map(|route| (route.name.clone(), route.counters.stats())).collect()
    }

    /// Returns the number of requests that found no route: their host, path or method matched none, or was
    /// refused.
    #[must_use]
    pub fn unrouted(&self) -> u64 {
        self.shared.unrouted.load(Ordering::Relaxed)
    }

    /// Creates a proxy.
    ///
    /// # Errors
    /// A route lacks backends or a statement of who is admitted, two routes match the same requests
    /// with the same rank, or a value is out of its bounds.
    pub fn new(
        config: Config,
        routes: impl IntoIterator<Item = Route>,
    ) -> Result<Self, InvalidConfig> {
        let connector = Connector::new(config.connect, config.clock.clone());
        Self::with_connector(config, routes, connector)
    }

    pub(crate) fn with_connector(
        config: Config,
        routes: impl IntoIterator<Item = Route>,
        connector: Connector,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        let via = via::Values::new(&config.name).ok_or_else(|| {
            InvalidConfig::new(
                "name",
                format!("{:?}", config.name),
                "a token that starts with a letter",
            )
        })?;
        let routes: Result<Vec<_>, _> = routes.into_iter().map(Route::check).collect();
        let routes = routes?;
        let table = Table::new(&routes)?;
        let allowed = Allowed { encoded_slash: routes.iter().any(|route| route.encoded_slash) };
        let forwarder = Arc::new(Forwarder::new(&config, connector));
        let unrouted = AtomicU64::new(0);
        let shared = Shared { routes, table, forwarder, config, via, allowed, unrouted };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("routes", &self.shared.routes).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Proxy
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let request = request.map(Body::new);
        Box::pin(async move { Ok(shared.answer(request).await) })
    }
}

/// The host of a request, and where it stood.
struct Authority {
    /// The normalized name.
    name: String,
    value: HeaderValue,
}

/// The answer of a backend, and what its body keeps.
struct Answered {
    response: Response<Stream>,
    upload: Option<Upload>,
    permit: Option<Permit>,
}

impl Shared {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let asked = Asked::of(head.version, &head.headers);
        let is_head = head.method == Method::HEAD;
        let removed = hop::remove(&mut head.headers);
        let answered = match self.route(&head) {
            Ok((route, authority)) => {
                let mut tally = Tally::begin(&route.counters);
                match self.forward(route, authority, head, body, removed.trailers).await {
                    Ok(answered) => Ok(self.pass(answered, is_head, tally)),
                    Err(failed) => {
                        tally.end(failed.ended());
                        Err(failed)
                    }
                }
            }
            Err(failed) => {
                self.unrouted.fetch_add(1, Ordering::Relaxed);
                Err(failed)
            }
        };
        answered.unwrap_or_else(|failed| {
            tracing::debug!(kind = failed.kind(), why = ?failed, "the proxy answered a request itself");
            failed.answer(&self.config.name, asked)
        })
    }

    /// Finds the route of a request, or why it is refused.
    fn route(&self, head: &request::Parts) -> Result<(&Checked, Option<Authority>), Failed> {
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(Failed::WrongMethod(FORWARDED.to_vec()));
        }
        let authority = authority(head)?;
        let matched =
            path::check(head.uri.path().as_bytes(), self.allowed).map_err(Failed::Path)?;
        let name = authority.as_ref().map(|authority| &*authority.name);
        let route = match self.table.find(name, &matched, &head.method) {
            Found::Route(index) => self.routes.get(index).ok_or(Failed::NoRoute)?,
            Found::WrongMethod(methods) => return Err(Failed::WrongMethod(methods)),
            Found::Nothing => return Err(Failed::NoRoute),
        };
        if self.allowed.encoded_slash && !route.encoded_slash {
            path::check(head.uri.path().as_bytes(), Allowed::default()).map_err(Failed::Path)?;
        }
        Ok((route, authority))
    }

    async fn forward(
        &self,
        route: &Checked,
        authority: Option<Authority>,
        mut head: request::Parts,
        body: Body,
        accepts_trailers: bool,
    ) -> Result<Answered, Failed> {
        if head.extensions.get::<Draining>().is_some() {
            return Err(Failed::Draining);
        }
        if via::is_loop(&head.headers, &self.config.name) {
            return Err(Failed::Loop);
        }
        let announced = http_body::Body::size_hint(&body).lower();
        if route.max_request_body.is_some_and(|limit| announced > limit) {
            return Err(Failed::BodyTooLarge);
        }
        let target = target(&head.uri, route.strip).ok_or(Failed::NoRoute)?;
        // Last of all that can refuse: a request that is refused for another reason spends no token.
        let passed = route.limits.pass(&mut head).await?;
        let is_trusted = self.config.trust.believes(&head.extensions, &head.headers);
        let mut headers = head.headers;
        headers.remove(HOST);
        // The proxy meets the expectation itself, when the backend's connection reads the body.
        headers.remove(EXPECT);
        let facts = forwarded::Facts {
            peer: head.extensions.get::<PeerAddr>().map(|PeerAddr(peer)| *peer),
            is_trusted,
            host: authority.as_ref().map(|authority| &authority.value),
        };
        forwarded::set(&mut headers, facts);
        via::add(&mut headers, head.version, &self.via);
        if accepts_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            if !route.upstream.is_http2() {
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        let body = Outgoing::new(body, route.max_request_body, &self.config.clock);
        let head = Head { method: head.method, target, headers };
        let sent = self.forwarder.send(&route.upstream, head, body, route.limits.time).await;
        let (result, upload) = match sent {
            Ok((response, upload)) => (Ok(response), upload),
            Err(failed) => (Err(failed), None),
        };
        let permit = passed.judge(&result);
        Ok(Answered { response: result?, upload, permit })
    }

    /// Turns the answer of a backend into the answer to the client.
    fn pass(&self, answered: Answered, is_head: bool, tally: Tally) -> Response<Body> {
        let Answered { response, upload, permit } = answered;
        let (mut head, Stream { body, tally: of_backend }) = response.into_parts();
        hop::remove(&mut head.headers);
        via::add(&mut head.headers, head.version, &self.via);
        head.version = Version::HTTP_11;
        let has_no_body =
            is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(CONTENT_LENGTH);
        }
        let body = if has_no_body {
            Body::empty()
        } else {
            Body::timed(body, self.config.idle, &self.config.clock)
        };
        // An answer that ends before the upload ends it too.
        let body = match upload {
            Some(upload) => body.hold(upload),
            None => body,
        };
        let body = match permit {
            Some(permit) => body.hold(permit),
            None => body,
        };
        Response::from_parts(head, body.watched(of_backend).watched(tally))
    }
}

/// Returns the host of a request. The authority of the target wins over `Host`.
fn authority(head: &request::Parts) -> Result<Option<Authority>, Failed> {
    let mut fields = host_fields(&head.headers);
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Failed::Host);
    }
    let value = match (head.uri.authority(), field) {
        (Some(authority), _) => {
            HeaderValue::try_from(authority.as_str()).map_err(|_| Failed::Host)?
        }
        (None, Some(field)) => field.clone(),
        (None, None) if head.version == Version::HTTP_10 => return Ok(None),
        (None, None) => return Err(Failed::Host),
    };
    let name = host::normalize(value.as_bytes()).ok_or(Failed::Host)?.into_owned();
    Ok(Some(Authority { name, value }))
}

fn host_fields(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    headers.get_all(HOST).iter()
}

/// Returns the path and query that are forwarded, without the first `strip` bytes of the matched form of the
/// path. All other bytes are unchanged.
fn target(uri: &Uri, strip: usize) -> Option<PathAndQuery> {
    let whole = uri.path_and_query()?;
    if strip == 0 {
        return Some(whole.clone());
    }
    let raw = path::raw_length(whole.path().as_bytes(), strip);
    let rest = whole.as_str().get(raw..)?;
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    PathAndQuery::try_from(rest).ok()
}
