//! One attempt: a request on a connection to a backend, within the limits of its head and its body.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use buttress::Clock;
use http::header::HOST;
use http::{Extensions, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, capture_connection};
use hyper_util::client::legacy::{self, ResponseFuture};
use tower::{Layer, Service};

use super::clocks::Late;
use super::connect::{TimedOut, Used};
use super::outgoing::{Outgoing, Phase};
use super::source::Sent;
use super::{Forwarder, Head};
use crate::answer::Failed;
use crate::descriptors;
use crate::upstream::Endpoint;

/// The failure of an attempt.
pub(super) struct Attempt {
    pub failed: Failed,
    pub retry: Retry,
}

/// The effect of an attempt that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Retry {
    /// Nothing was sent.
    Unsent,
    /// The backend closed a connection that had been idle. It may have read the request.
    Stale,
    /// The deadline of the request ended the attempt. The backend was not late.
    Overdue,
    Never,
}

/// The connection that a request is sent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Via {
    /// One of the pool, or a new one.
    Pool,
    /// A new one.
    Fresh,
    /// The connection of HTTP/2 with this number.
    Lane(usize),
}

/// A request that was given to a client of a backend.
pub(super) struct InFlight {
    response: ResponseFuture,
    start: Instant,
    upgrades: bool,
    /// The connection of HTTP/2. Other requests share it.
    shared: Option<CaptureConnection>,
}

/// The least time without a byte from a connection of HTTP/2 after which it counts as dead.
const SILENCE: Duration = Duration::from_secs(1);

impl Forwarder {
    /// Starts a request on a connection of a pool, or on a connection of its own. `None` if the target does not fit
    /// the backend.
    pub(super) fn begin(
        &self,
        endpoint: &Endpoint,
        head: Head,
        body: Sent,
        via: Via,
    ) -> Option<InFlight> {
        let lane;
        let (client, version) = match via {
            Via::Lane(number) => {
                lane = self.http2.get(number);
                (&lane, Version::HTTP_2)
            }
            Via::Pool => (&self.http1, Version::HTTP_11),
            Via::Fresh => (&self.fresh, Version::HTTP_11),
        };
        let is_http2 = version == Version::HTTP_2;
        let Head { method, target, headers, carries_context, upgrades } = head;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = endpoint.uri(target)?;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        if !is_http2 {
            // HTTP/2 has the host in the target.
            request.headers_mut().insert(HOST, endpoint.host.clone());
        }
        let start = self.clock.now();
        let shared = is_http2.then(|| capture_connection(&mut request));
        let response = if carries_context {
            self.context.layer(client).call(request)
        } else {
            client.request(request)
        };
        Some(InFlight { response, start, upgrades, shared })
    }

    /// Waits for the head of the answer, within the limits of the proxy and the deadline of the context.
    pub(super) async fn answer(
        &self,
        in_flight: InFlight,
        progress: &Outgoing,
    ) -> Result<Response<Incoming>, Attempt> {
        let never = |failed| Attempt { failed, retry: Retry::Never };
        let InFlight { mut response, start, upgrades, shared } = in_flight;
        let mut silence = Silence { shared, start, clock: &self.clock, reads: None };
        let answer = {
            let noted = pin!(poll_fn(|cx| {
                let polled = Pin::new(&mut response).poll(cx);
                if polled.is_ready() {
                    silence.end();
                } else {
                    silence.note();
                }
                polled
            }));
            self.in_time(noted, start, progress).await
        };
        let answer = answer.map_err(|Late { failed, is_overdue }| {
            let retry = if is_overdue { Retry::Overdue } else { Retry::Never };
            Attempt { failed, retry }
        })?;
        let mut response = answer.map_err(|error| self.classify(&error, progress))?;
        if let Some(used) = response.extensions_mut().remove::<Used>() {
            used.set();
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrades {
            // Nothing asked for it.
            return Err(never(Failed::BadAnswer));
        }
        Ok(response)
    }
}

/// The wait for an answer on a connection of HTTP/2. Dropped without an answer, it gives no further request to a
/// connection that was silent. A limit of the proxy drops it, a client that leaves, and the limit of a mirror.
struct Silence<'c> {
    /// `None` for HTTP/1.1, and once the wait has ended.
    shared: Option<CaptureConnection>,
    start: Instant,
    clock: &'c Clock,
    /// The number of reads of the connection when the request began to wait.
    reads: Option<u64>,
}

impl Silence<'_> {
    /// Records the number of reads of the connection, once.
    fn note(&mut self) {
        if let (Some(shared), None) = (&self.shared, self.reads) {
            self.reads = reads_of(shared);
        }
    }

    fn end(&mut self) {
        self.shared = None;
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let (Some(shared), Some(reads)) = (&self.shared, self.reads) else { return };
        let is_long = self.clock.now().saturating_duration_since(self.start) >= SILENCE;
        if is_long && reads_of(shared) == Some(reads) {
            forsake(shared);
        }
    }
}

impl Forwarder {
    /// Finds out which side failed.
    fn classify(&self, error: &legacy::Error, body: &Outgoing) -> Attempt {
        let io = |cause: &'_ (dyn Error + 'static)| {
            cause.downcast_ref::<std::io::Error>().is_some_and(descriptors::are_exhausted)
        };
        if !error.is_connect() || !causes(error).any(io) {
            return classify(error, body);
        }
        if self.exhausted.is_due(self.clock.now()) {
            tracing::error!("no file descriptor is free for connections to backends");
        }
        Attempt { failed: Failed::Exhausted, retry: Retry::Never }
    }
}

fn reads_of(shared: &CaptureConnection) -> Option<u64> {
    let connected = shared.connection_metadata();
    connected.as_ref().and_then(used).map(|used| used.reads())
}

/// Gives no further request to a connection that is silent.
fn forsake(shared: &CaptureConnection) {
    if let Some(connected) = &*shared.connection_metadata() {
        connected.poison();
    }
}

fn used(connected: &Connected) -> Option<Used> {
    let mut extensions = Extensions::new();
    connected.get_extras(&mut extensions);
    extensions.remove::<Used>()
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
    let is_refused = causes(error).any(|cause| {
        let error = cause.downcast_ref::<h2::Error>();
        // The peer has processed no part of the request (RFC 9113, 8.7).
        error.is_some_and(|error| {
            error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
        })
    });
    if is_refused {
        return Attempt { failed: Failed::Declined, retry: Retry::Unsent };
    }
    let was_used = error.connect_info().and_then(used).is_some_and(|used| used.get());
    let retry = if was_used { Retry::Stale } else { Retry::Never };
    Attempt { failed: Failed::Terminated, retry }
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}
