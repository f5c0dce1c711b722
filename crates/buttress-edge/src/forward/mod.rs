//! Sends a request to a backend, within the three clocks, and again where nothing can have happened.

mod backend;
mod connect;
mod outgoing;

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use buttress::Clock;
use buttress::balance::Tried;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::answer::Failed;
use crate::config::Config;
use crate::race::first;
use crate::upstream::Upstream;

use backend::opened;
pub(crate) use backend::{Answer, Backend, Call, Judge, Lost, Stream};
pub(crate) use connect::Connector;
use connect::{TimedOut, Used};
pub(crate) use outgoing::Outgoing;
use outgoing::Phase;

/// The clients of all backends.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    /// HTTP/1.1 with a pool.
    http1: Client<Connector, Outgoing>,
    /// HTTP/1.1, and a new connection for each request.
    fresh: Client<Connector, Outgoing>,
    http2: Client<Connector, Outgoing>,
    clock: Clock,
    head: Duration,
    idle: Duration,
}

/// The head of a request as a backend gets it.
#[derive(Debug)]
#[cfg_attr(not(test), derive(Clone))]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// The path and query behind the base of an endpoint.
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

/// Counts, so that tests see each copy.
#[cfg(test)]
impl Clone for Head {
    fn clone(&self) -> Self {
        crate::tests::COPIES.with(|copies| copies.set(copies.get() + 1));
        let Self { method, target, headers } = self;
        Self { method: method.clone(), target: target.clone(), headers: headers.clone() }
    }
}

/// The failure of an attempt.
struct Attempt {
    failed: Failed,
    retry: Retry,
}

/// What an attempt that failed has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Retry {
    /// Nothing was sent.
    Unsent,
    /// The backend closed a connection that had been idle. It may have read the request.
    Stale,
    Never,
}

/// The rest of an upload. It ends when this value is dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Upload(Outgoing);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Forwarder {
    pub(crate) fn new(config: &Config, connector: Connector) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        builder.pool_idle_timeout(config.pool_idle).pool_max_idle_per_host(config.pool_size);
        let http1 = builder.build(connector.clone());
        let http2 = builder.clone().http2_only(true).build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        let clock = config.clock.clone();
        Self { http1, fresh, http2, clock, head: config.head, idle: config.idle }
    }

    /// Sends a request to a backend of `upstream`, and returns the head of its answer, with the rest of the
    /// upload if there is any.
    ///
    /// All attempts together take at most `limit`. A request of which nothing was sent goes to another backend, once. A GET or HEAD that met
    /// a closed connection of the pool is sent once more, on a new connection.
    pub(crate) async fn send(
        self: &Arc<Self>,
        upstream: &Upstream,
        head: Head,
        body: Outgoing,
        limit: Option<Duration>,
    ) -> Result<(Response<Stream>, Option<Upload>), Failed> {
        let upload = Upload(body);
        let attempts = self.attempts(upstream, head, &upload.0);
        let response = match limit {
            None => attempts.await,
            Some(limit) => {
                let sleep = pin!(self.clock.sleep(limit));
                first(pin!(attempts), sleep).await.unwrap_or_else(|| Err(upload.0.late()))
            }
        }?;
        let upload = Some(upload).filter(|upload| upload.0.phase() != Phase::Ended);
        Ok((response, upload))
    }

    async fn attempts(
        self: &Arc<Self>,
        upstream: &Upstream,
        head: Head,
        body: &Outgoing,
    ) -> Result<Response<Stream>, Failed> {
        let tried = upstream.has_others().then(Tried::new);
        let call = |head, unsent| Call {
            forwarder: Arc::clone(self),
            head,
            body: body.clone(),
            http2: upstream.is_http2(),
            tried: tried.clone(),
            unsent,
        };
        let head = Arc::new(head);
        let spare = tried.is_some().then(|| Arc::clone(&head));
        let lost = match upstream.call(call(head, None)).await {
            Ok(response) => return opened(response).ok_or(Failed::Unreachable)?,
            Err(lost) => lost,
        };
        match (spare, lost) {
            (Some(head), Lost::Unsent { failed, backend }) if body.is_unread() => {
                match upstream.call(call(head, Some(backend))).await {
                    Ok(response) => opened(response).ok_or(failed)?,
                    Err(Lost::Refused(_)) => Err(failed),
                    Err(lost) => Err(lost.failed()),
                }
            }
            (_, lost) => Err(lost.failed()),
        }
    }

    async fn attempt(
        &self,
        client: &Client<Connector, Outgoing>,
        uri: Uri,
        version: Version,
        head: Arc<Head>,
        body: Outgoing,
    ) -> Result<Response<Incoming>, Attempt> {
        let never = |failed| Attempt { failed, retry: Retry::Never };
        // A copy is made only while another attempt could need it.
        let head = Arc::unwrap_or_clone(head);
        let mut request = Request::new(body.clone());
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = head.headers;

        let start = self.clock.now();
        let mut response = pin!(client.request(request));
        let mut sleep = pin!(None);
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = response.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            loop {
                // A limit beyond the end of time is none.
                let Some(due) = body.due(start, self.head, self.idle, cx.waker()) else {
                    return Poll::Pending;
                };
                let Some(mut timer) = sleep.as_mut().as_pin_mut() else {
                    sleep.set(Some(self.clock.sleep_until(due)));
                    continue;
                };
                buttress::Sleep::reset(timer.as_mut(), due);
                if timer.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // The body may have made progress since the timer was set.
                if body.due(start, self.head, self.idle, cx.waker()) == Some(due) {
                    return Poll::Ready(None);
                }
            }
        })
        .await;
        match answer {
            None => Err(never(body.late())),
            Some(Err(error)) => Err(classify(&error, &body)),
            Some(Ok(mut response)) => {
                if let Some(used) = response.extensions_mut().remove::<Used>() {
                    used.set();
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    // Nothing asked for it.
                    return Err(never(Failed::BadAnswer));
                }
                Ok(response)
            }
        }
    }
}

/// Finds out which side failed.
fn classify(error: &legacy::Error, body: &Outgoing) -> Attempt {
    let never = |failed| Attempt { failed, retry: Retry::Never };
    tracing::debug!(
        error = error as &(dyn Error + 'static),
        "an attempt to reach a backend failed"
    );
    if error.is_connect() {
        let is_late = causes(error).any(<dyn Error>::is::<TimedOut>)
            || causes(error).any(|cause| {
                let io = cause.downcast_ref::<std::io::Error>();
                io.and_then(std::io::Error::get_ref).is_some_and(|inner| inner.is::<TimedOut>())
            });
        let failed = if is_late { Failed::ConnectTimedOut } else { Failed::Unreachable };
        return Attempt { failed, retry: Retry::Unsent };
    }
    match body.phase() {
        Phase::TooLarge => return never(Failed::BodyTooLarge),
        Phase::Broken => return never(Failed::BodyBroken),
        _ => {}
    }
    let hyper = causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    let is_invalid = hyper.is_some_and(|error| {
        error.is_parse() || error.is_parse_too_large() || error.is_parse_status()
    });
    if is_invalid {
        return never(Failed::BadAnswer);
    }
    let was_used = error.connect_info().is_some_and(|connected| {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.get::<Used>().is_some_and(Used::get)
    });
    let retry = if was_used { Retry::Stale } else { Retry::Never };
    Attempt { failed: Failed::Terminated, retry }
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}
