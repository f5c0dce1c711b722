//! Sends a request to a backend, within the three clocks, and again where nothing can have happened twice.

mod attempt;
mod backend;
mod clocks;
mod compared;
mod connect;
mod digest;
mod lanes;
mod local;
mod outgoing;
mod parcel;
mod probe;
mod round;
mod source;
mod spare;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buttress::Clock;
use buttress_http::context::{ClientContextLayer, ContextLayer};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::{Layer, Service};

use crate::answer::Failed;
use crate::config::Config;
use crate::notice::Notice;
use crate::race::Either;
use crate::upstream::Upstream;

pub(crate) use backend::{Answer, Backend, Call, Judge, Lost, Stream};
pub(crate) use compared::Comparing;
pub(crate) use connect::Connector;
pub(crate) use digest::Observer;
pub(crate) use lanes::Lane;
use lanes::Lanes;
pub(crate) use outgoing::Outgoing;
pub(crate) use parcel::{ByAnswer, Mirror, Parcel, Primary, SafeParcels};
pub(crate) use probe::probe;
pub(crate) use round::{Again, Contact, again};
use round::{Round, Rounds};
use source::Sent;

/// The most bytes of an answer that wait for a client, and of a request that wait for a backend.
const BUFFER: u32 = 64 * 1024;
/// The window of each stream of h2. It bounds the part of an answer that is kept for a client that reads slowly.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The window of a connection of h2: the largest possible one, so that slow readers do not stop other streams.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The clients of all backends.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    /// HTTP/1.1 with a pool.
    http1: Client<Connector, Sent>,
    /// HTTP/1.1, and a new connection for each request.
    fresh: Client<Connector, Sent>,
    http2: Lanes,
    /// Writes the context of a request into each attempt.
    context: ClientContextLayer,
    clock: Clock,
    head: Duration,
    idle: Duration,
    /// That no descriptor is free for a connection.
    exhausted: Arc<Notice>,
}

/// The head of a request as a backend gets it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub method: Method,
    /// The path and query behind the base of an endpoint.
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    /// Whether the attempts carry the context of the request.
    pub carries_context: bool,
    /// Whether the client asks for an upgrade.
    pub upgrades: bool,
}

/// Where a request goes, and whether it is sent again.
#[derive(Debug)]
pub(crate) struct Sending {
    pub upstream: Arc<Upstream>,
    /// `None` without retries.
    pub again: Option<Again>,
    /// The longest body that is sent again, in bytes.
    pub replay_buffer: usize,
    /// Whether the backends run a request with an `Idempotency-Key` once.
    pub honours_keys: bool,
}

/// The rest of an upload. It ends when this value is dropped, at the latest.
#[derive(Debug)]
pub(crate) struct Upload(Outgoing);

impl Upload {
    /// Returns the upload of a body, if there is one.
    pub(crate) fn of(body: &Outgoing) -> Option<Self> {
        (!body.is_empty()).then(|| Self(body.clone()))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Returns the body.
    pub(crate) fn body(&self) -> &Outgoing {
        &self.0
    }
}

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
        builder.http1_max_buf_size(BUFFER as usize).http2_max_send_buf_size(BUFFER as usize);
        builder.http2_initial_stream_window_size(STREAM_WINDOW);
        builder.http2_initial_connection_window_size(CONNECTION_WINDOW);
        #[cfg(feature = "tls")]
        let connector = connector.tls(crate::tls::Upstreams::new(config.roots.clone()));
        let http1 = builder.build(connector.clone());
        let of_http2 = connector.clone();
        #[cfg(feature = "tls")]
        let of_http2 = of_http2.http2();
        let http2 = Lanes::new(builder.clone().http2_only(true).clone(), of_http2);
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        let clock = config.clock.clone();
        let context = ContextLayer::client().clock(clock.clone());
        let (head, idle, exhausted) = (config.head, config.idle, Arc::default());
        Self { http1, fresh, http2, context, clock, head, idle, exhausted }
    }

    /// Sends a request to a backend, and returns the head of its answer. `contact` records whether a backend can have
    /// seen it.
    ///
    /// All attempts together end at the deadline of the context: each attempt, each wait for a backend and each wait
    /// between attempts heeds it. So they share one timer, and there is none around them. A request that was not sent
    /// goes to another backend, once. A GET or HEAD that met a closed connection of the pool is sent once more, on a
    /// new connection. The retry repeats the rest.
    pub(crate) fn send(
        self: &Arc<Self>,
        sending: &Sending,
        head: Head,
        body: Outgoing,
        contact: Option<Arc<Contact>>,
    ) -> impl Future<Output = Result<Response<Stream>, Failed>> + Send + use<> {
        let round = Round::new(self, sending, head, body, contact);
        match &sending.again {
            None => Either::Left { future: round.run() },
            Some(again) => Either::Right { future: again.layer(Rounds).call(round) },
        }
    }
}
