//! [`serve`]: a listener for a proxy.

pub(crate) mod connection;
mod places;
mod rewind;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::Clock;
use buttress::health::Health;
use buttress_http::client_key::AddressKey;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::{BoxError, Service};

use crate::race::first;
pub(crate) use connection::Draining;
use connection::{Connections, Stage};
use places::{Place, Places};

/// The pause after an error of the listener, e.g. when no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a [`Proxy`](crate::Proxy), or layers around one, on a listener.
///
/// One port speaks HTTP/1.1 and h2 without TLS. The proxy finds the address of the client in the
/// extension [`PeerAddr`](buttress_http::client_key::PeerAddr).
///
/// ```no_run
/// use std::time::Duration;
/// use buttress_edge::{Config, Proxy, Route, Upstream, serve};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let all = Route::new("all").to(Upstream::fixed(["http://127.0.0.1:8001"])?).public();
/// let gateway = Proxy::new(Config::new(), [all])?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
/// # let terminated = std::future::pending();
/// // `terminated` completes at the signal to stop.
/// let served = serve(listener, gateway).until(terminated).drain(Duration::from_secs(30)).await;
/// println!("{} connections were cut off", served.cut);
/// # Ok(())
/// # }
/// ```
pub fn serve<S>(listener: TcpListener, service: S) -> Serve<S> {
    Serve {
        listener,
        service,
        until: Box::pin(pending()),
        drain: Duration::from_secs(30),
        health: None,
        head: Duration::from_secs(10),
        max: 10_000,
        max_per_address: 256,
        clock: Clock::default(),
    }
}

/// A listener that is about to serve. Awaiting it serves until [`until`](Self::until) completes.
///
/// # Cancel safety
/// Dropping the future closes the listener and cuts off all its connections.
#[must_use = "a listener serves only when it is awaited"]
pub struct Serve<S> {
    listener: TcpListener,
    service: S,
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
    drain: Duration,
    health: Option<Health>,
    head: Duration,
    max: usize,
    max_per_address: usize,
    clock: Clock,
}

/// What a listener did.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// Connections that were served.
    pub accepted: u64,
    /// Connections that were closed on arrival, because the listener or their address had too many.
    pub refused: u64,
    /// Connections that had not ended when the time of the drain was over.
    pub cut: u64,
}

impl<S> Serve<S> {
    /// Begins the drain when `signal` completes. Default: never.
    ///
    /// The listener closes then. Idle connections close. Requests that had begun finish, within the time of the drain:
    /// answers of HTTP/1.1 carry `Connection: close`, and connections of h2 get GOAWAY. A proxy answers requests that
    /// begin on an open connection with 503.
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Box::pin(signal);
        self
    }

    /// Sets the longest time of the drain. Default: 30 seconds. Connections that have not ended then are cut off.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Reports `health` as draining from the beginning of the drain: its readiness is 503 then, also on other listeners,
    /// and its liveness stays. Default: none.
    pub fn health(mut self, health: Health) -> Self {
        self.health = Some(health);
        self
    }

    /// Sets the longest time until a client has sent the head of a request. Default: 10 seconds.
    ///
    /// The time begins with the connection, again with its first byte, and on HTTP/1.1 with the end of each
    /// answer. So it also closes a connection without a first byte, and one of HTTP/1.1 that stays unused.
    pub fn head_limit(mut self, limit: Duration) -> Self {
        self.head = limit;
        self
    }

    /// Sets the greatest number of connections. Default: 10 000. Further connections are closed
    /// immediately and counted in [`Served::refused`].
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max = connections;
        self
    }

    /// Sets the greatest number of connections of one address. Default: 256. Further connections are
    /// closed immediately and counted in [`Served::refused`]. IPv6 addresses count by their first 64 bits.
    pub fn max_per_address(mut self, connections: usize) -> Self {
        self.max_per_address = connections;
        self
    }

    /// Sets the clock of the drain and of the first byte. Default: tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl<S> fmt::Debug for Serve<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<S, B> IntoFuture for Serve<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Served;
    type IntoFuture = Pin<Box<dyn Future<Output = Served> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S, B> Serve<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn run(self) -> Served {
        let (stage, stages) = watch::channel(Stage::Running);
        // A dropped future cuts its connections off.
        let stage = Cut(stage);
        let places = Places::new(self.max, self.max_per_address);
        let (head, clock) = (self.head, self.clock.clone());
        let connections = Connections { service: self.service, head, clock, stages };
        let cut = Arc::new(AtomicU64::new(0));
        let mut served = Served::default();
        let mut until = self.until;
        let mut has_failed = false;
        while let Some(accepted) = first(pin!(self.listener.accept()), until.as_mut()).await {
            let (io, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_connection(&error) => continue,
                Err(error) => {
                    if !has_failed {
                        tracing::error!(%error, "cannot accept connections; trying again every 100 ms");
                    }
                    has_failed = true;
                    if first(pin!(self.clock.sleep(PAUSE)), until.as_mut()).await.is_none() {
                        break;
                    }
                    continue;
                }
            };
            has_failed = false;
            let Some(place) = places.take(AddressKey::from(peer.ip())) else {
                served.refused += 1;
                continue;
            };
            served.accepted += 1;
            // A connection without the option is served all the same, only slower.
            drop(io.set_nodelay(true));
            let cut = Arc::clone(&cut);
            tokio::spawn(serve_one(connections.clone(), io, peer.ip(), place, cut));
        }
        if let Some(health) = &self.health {
            health.drain();
        }
        drop(self.listener);
        drop(connections);
        stage.0.send_replace(Stage::Draining);
        let over = pin!(self.clock.sleep(self.drain));
        if first(pin!(stage.0.closed()), over).await.is_none() {
            tracing::warn!(
                connections = places.total(),
                "the drain is over; connections are cut off"
            );
            stage.0.send_replace(Stage::Over);
            stage.0.closed().await;
        }
        served.cut = cut.load(Ordering::Relaxed);
        served
    }
}

/// Cuts all connections off when it is dropped.
struct Cut(watch::Sender<Stage>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.send_replace(Stage::Over);
    }
}

async fn serve_one<S, B>(
    connections: Connections<S>,
    io: TcpStream,
    peer: std::net::IpAddr,
    place: Place,
    cut: Arc<AtomicU64>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let stages = connections.stages.clone();
    let has_ended = connections.serve(io, peer).await;
    if !has_ended {
        cut.fetch_add(1, Ordering::Relaxed);
    }
    // The listener waits for the last of these, so the place is free by then.
    drop(place);
    drop(stages);
}

/// Whether an error of `accept` is about the connection that was to be accepted.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
