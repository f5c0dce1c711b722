//! A request from its arrival to the head of its answer.
//!
//! Everything that needs no wait happens in the call. So the future of most requests holds little more than the attempt:
//! a future above 1 KiB costs the allocator several hundred instructions more.

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use buttress::context::Context;
use buttress_http::client_key::PeerAddr;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};

use super::local;
use super::routes::{At, Routes};
use super::target::target;
use super::{Answering, Shared};
use crate::Body;
use crate::admission::Admit;
use crate::answer::{Asked, Failed, Stopped};
use crate::body::{SizeLimit, has_no_body};
use crate::caller::Subject;
use crate::exchange::Exchange;
use crate::forward::{Head, Observer, Outgoing, Parcel, Stream, Upload};
use crate::headers::named;
use crate::headers::trailers::Trailers;
use crate::headers::{Seen, forwarded, hop, via};
use crate::numbers::{Ended, Tally};
use crate::race::Either;
use crate::route::{Checked, To};
use crate::route_limits::Passed;
use crate::serve::{Draining, Secure};
use crate::tunnel::{self, Upgrade};

/// A request that has found its route.
struct Arrived {
    at: At,
    tally: Tally,
    asked: Asked,
    /// The host as the client wrote it.
    host: Option<HeaderValue>,
    head: request::Parts,
    target: PathAndQuery,
    body: Body,
    subject: Option<Subject>,
    accepts_trailers: bool,
    upgrade: Option<Upgrade>,
    /// The fields of the request.
    seen: Seen,
    context: Context,
    /// Whether a layer further out has begun a context. Without one there is nothing to carry.
    carries_context: bool,
}

/// Asks the admission of a route. Only the fields, the extensions and the body can change.
async fn admitted(
    admit: &dyn Admit,
    head: &mut request::Parts,
    body: Body,
) -> Result<(Body, Option<Subject>), Stopped> {
    let (mut asked, ()) = Request::new(()).into_parts();
    asked.method = head.method.clone();
    asked.uri = head.uri.clone();
    asked.version = head.version;
    asked.headers = std::mem::take(&mut head.headers);
    asked.extensions = std::mem::take(&mut head.extensions);
    // Only the admission says who the caller is.
    asked.extensions.remove::<Subject>();
    let decision = admit.admit(Request::from_parts(asked, body)).decided().await;
    let (admitted, body) = decision?.into_parts();
    head.headers = admitted.headers;
    head.extensions = admitted.extensions;
    Ok((body, head.extensions.remove::<Subject>()))
}

/// Refuses what the route refuses without a wait, and returns the target that is forwarded.
fn check(
    route: &Checked,
    head: &request::Parts,
    body: &Body,
    name: &str,
    seen: Seen,
) -> Result<PathAndQuery, Failed> {
    if head.extensions.get::<Draining>().is_some() {
        return Err(Failed::Draining);
    }
    if seen.has(Seen::VIA) && via::is_loop(&head.headers, name) {
        return Err(Failed::Loop);
    }
    if SizeLimit::new(route.max_request_body).is_exceeded_by(body) {
        return Err(Failed::BodyTooLarge);
    }
    target(&head.uri, route.strip).ok_or(Failed::NoRoute)
}

/// Joins the fields that HTTP/2 may split (RFC 9113, section 8.2.3), and the lengths that it may repeat.
fn join_fields(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let all = [first, second].into_iter().chain(cookies).map(HeaderValue::as_bytes);
        if let Ok(joined) = HeaderValue::from_bytes(&all.collect::<Vec<_>>().join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
    // Different ones have ended the stream.
    hop::join_lengths(headers);
}

impl Shared {
    /// Answers a request.
    pub(super) fn answer(self: Arc<Self>, request: Request<Body>) -> Answering {
        let arrived = match self.arrive(request) {
            Ok(arrived) => arrived,
            Err(response) => return Box::pin(ready(Ok(*response))),
        };
        let route = arrived.at.route();
        if route.admit.is_none() && route.limits.refuse_none() {
            let sent = self.send(arrived, Passed::default());
            return Box::pin(async move { Ok(sent.await) });
        }
        let mut arrived = Box::new(arrived);
        Box::pin(async move {
            Ok(match self.admit(&mut arrived).await {
                Ok(passed) => self.send(*arrived, passed).await,
                Err(stopped) => self.refuse(stopped, arrived.asked, Some(&mut arrived.tally)),
            })
        })
    }

    fn arrive(&self, request: Request<Body>) -> Result<Arrived, Box<Response<Body>>> {
        let (mut head, body) = request.into_parts();
        if head.version == Version::HTTP_2 {
            join_fields(&mut head.headers);
        }
        let seen = Seen::of(&head.headers);
        let asked = Asked::of(&head, seen);
        let is_coded = seen.has(Seen::TRANSFER_ENCODING) && hop::is_coded(&head.headers);
        let removed = hop::remove(&mut head.headers, seen);
        let upgrade = if seen.has(Seen::UPGRADE) {
            Upgrade::of(&mut head, removed.upgrade).filter(|_| body.is_empty())
        } else {
            None
        };
        let found = if is_coded { Err(Failed::Coding) } else { Routes::find(self.routes(), &head) };
        let (at, host) = match found {
            Ok(found) => found,
            Err(failed) => {
                self.unrouted.fetch_add(1, Ordering::Relaxed);
                return Err(Box::new(self.refuse(failed.into(), asked, None)));
            }
        };
        let route = at.route();
        let mut tally = Tally::begin(&route.counters);
        let target = match check(route, &head, &body, &self.config.name, seen) {
            Ok(target) => target,
            Err(failed) => {
                return Err(Box::new(self.refuse(failed.into(), asked, Some(&mut tally))));
            }
        };
        // Before the admission, so that it does not believe a field that the client has written.
        at.of_callers().remove_identity(&mut head.headers);
        let context = Context::current();
        let carries_context = context.correlation().is_some()
            || context.trace().is_some()
            || context.expires().is_some();
        Ok(Arrived {
            at,
            tally,
            asked,
            host,
            head,
            target,
            body,
            subject: None,
            accepts_trailers: removed.trailers,
            upgrade,
            seen,
            context,
            carries_context,
        })
    }

    /// Asks the admission and the limits of the route.
    async fn admit(&self, arrived: &mut Arrived) -> Result<Passed, Stopped> {
        let Arrived { at, head, body, subject, seen, context, .. } = arrived;
        let route = at.route();
        if let Some(admit) = &route.admit {
            (*body, *subject) = admitted(&*admit.0, head, std::mem::take(body)).await?;
            // The admission can have written any field.
            *seen = Seen::of(&head.headers);
            if let Some(subject) = subject {
                *context = std::mem::take(context).with_identity(subject.as_str());
            }
        }
        if route.limits.refuse_none() {
            return Ok(Passed::default());
        }
        // Last of all that can refuse: a request that is refused for another reason spends no token.
        let limits =
            route.limits.pass((&self.config.clock, self.config.head), head, subject.as_ref());
        Ok(context.clone().scope(limits).await?)
    }

    /// Sends a request that was admitted, and turns the answer of the backend into the answer to the client.
    fn send(
        self: &Arc<Self>,
        arrived: Arrived,
        mut passed: Passed,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let Arrived { at, mut tally, asked, host, head, target, body, subject, .. } = arrived;
        let Arrived { accepts_trailers, mut upgrade, seen, context, carries_context, .. } = arrived;
        let route = at.route();
        let (is_http2, is_local, split) = match &route.to {
            To::Backends(to) => (to.sending.upstream.is_http2(), false, to.split.as_ref()),
            To::Service(_) => (false, true, None),
        };
        // Of the fields as the client has sent them.
        let wish = split.map(|it| it.choice.wish(&head.headers, subject.as_ref()));
        let is_trusted = self.config.trust.believes(&head.extensions, &head.headers);
        let mut headers = head.headers;
        if is_http2 {
            // An attempt over HTTP/1.1 replaces the field.
            headers.remove(HOST);
        }
        if seen.has(Seen::EXPECT) {
            // The proxy meets the expectation itself, when the backend's connection reads the body.
            headers.remove(EXPECT);
        }
        let facts = forwarded::Facts {
            peer: head.extensions.get::<PeerAddr>().map(|PeerAddr(peer)| *peer),
            is_trusted,
            is_secure: head.extensions.get::<Secure>().is_some(),
            host: host.as_ref(),
        };
        forwarded::set(&mut headers, facts, seen);
        if seen.has(Seen::CONTEXT) && (carries_context || !is_trusted) {
            named::remove_context(&mut headers);
        }
        if !route.forward_credentials {
            at.of_callers().remove_credentials(&mut headers, seen);
        }
        if let (Some(name), Some(subject)) = (&route.identity, &subject) {
            headers.extend(subject.value().map(|value| (name.clone(), value)));
        }
        via::add(&mut headers, head.version, &self.via);
        if accepts_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            if !is_http2 && !is_local {
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        upgrade = upgrade.filter(|_| !is_http2 && !is_local);
        if let Some(upgrade) = &upgrade {
            upgrade.ask(&mut headers);
        }
        let is_unusual = matches!(head.method, Method::GET | Method::HEAD) && !body.is_empty();
        if is_unusual && !is_local && !headers.contains_key(CONTENT_LENGTH) {
            // The client of the backend would send no body at all.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let is_head = head.method == Method::HEAD;
        let upgrades = upgrade.is_some();
        let (version, extensions) = (head.version, head.extensions);
        let head = Head { method: head.method, target, headers, carries_context, upgrades };
        let body = Trailers::checked(body, at.of_callers());
        let body = Outgoing::new(body, route.max_request_body, &self.config.clock);
        let upload = Upload::of(&body);
        // The retry of the route, the balancer and the attempts heed the deadline of the context.
        let context = route.limits.within(&self.config.clock, context);
        let sent = match &route.to {
            To::Backends(to) if to.split.is_none() && to.shadow.is_none() => {
                Either::Left { future: self.forwarder.send(&to.sending, head, body, None) }
            }
            To::Backends(to) => {
                let wish = wish.unwrap_or_default();
                let parcel = Parcel::new(&self.forwarder, Arc::clone(to), wish, head, body)
                    .withhold(at.of_callers());
                Either::Right { future: parcel.deliver() }
            }
            To::Service(service) => {
                let request = local::request(head, version, host, (extensions, subject));
                let sent = self.forwarder.serve(service, request, body, carries_context);
                Either::Right { future: sent }
            }
        };
        let sent = context.scope(sent);
        let shared = Arc::clone(self);
        async move {
            let clock = &shared.config.clock;
            let sent = pin!(sent);
            let result = match passed.watch(sent, upload.as_ref().map(Upload::body), clock).await {
                Ok(response) if hop::is_coded(response.headers()) => Err(Failed::BadAnswer),
                // A protocol that the client did not ask for may be one that passes the routes by.
                Ok(response)
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS
                        && !upgrade.as_ref().is_some_and(|it| it.allows(response.headers())) =>
                {
                    Err(Failed::BadAnswer)
                }
                result => result,
            };
            let permit = passed.judge(&result, upload.as_ref().map(Upload::body), clock);
            let response = match result {
                Ok(response) => response,
                Err(failed) => return shared.refuse(failed.into(), asked, Some(&mut tally)),
            };
            let (head, stream) = response.into_parts();
            let Stream { body, tally: mut of_backend, lane, observer } = stream;
            if let Some(of_backend) = &mut of_backend {
                of_backend.drops_as(Ended::Abandoned);
            }
            let upload = upload.filter(|upload| !upload.is_over());
            let exchange = Exchange { tally, of_backend, permit, lane, upload };
            let response = Response::from_parts(head, body);
            shared.pass(response, is_head, exchange, (upgrade, observer.into_inner()))
        }
    }

    /// Returns the answer to a request that the proxy answers itself.
    fn refuse(&self, stopped: Stopped, asked: Asked, tally: Option<&mut Tally>) -> Response<Body> {
        if let Some(tally) = tally {
            tally.end(stopped.failed.ended());
        }
        let Stopped { failed, .. } = &stopped;
        tracing::debug!(kind = failed.kind(), why = ?failed, "the proxy answered a request itself");
        stopped.answer(&self.config.name, asked)
    }

    /// Turns the answer of a backend into the answer to the client.
    fn pass(
        &self,
        response: Response<Body>,
        is_head: bool,
        exchange: Exchange,
        (upgrade, observer): (Option<Upgrade>, Option<Observer>),
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        let seen = Seen::of(&head.headers);
        let removed = hop::remove(&mut head.headers, seen);
        if seen.has(Seen::CONTENT_LENGTH) {
            hop::join_lengths(&mut head.headers);
        }
        via::add(&mut head.headers, head.version, &self.via);
        head.version = Version::HTTP_11;
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (head.status, upgrade) {
            let limits = (self.config.idle, self.config.clock.clone());
            if let Some(protocol) = removed.upgrade {
                tunnel::write(&mut head.headers, protocol);
            }
            tunnel::join(upgrade, &mut head.extensions, exchange, limits);
            return Response::from_parts(head, Body::empty());
        }
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(CONTENT_LENGTH);
        }
        let body = if has_no_body(is_head, head.status) {
            Body::empty()
        } else {
            Body::timed(body, self.config.idle, &self.config.clock)
        };
        let body = match observer {
            Some(observer) => observer.observe(body),
            None => body,
        };
        Response::from_parts(head, body.watched(exchange))
    }
}
