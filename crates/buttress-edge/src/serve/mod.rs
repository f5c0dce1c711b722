//! [`serve`]: a listener for a proxy.

mod accept;
pub(crate) mod connection;
mod open;
mod paced;
pub(crate) mod places;
mod rewind;
mod stream;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::__setters as setters;
use buttress::Clock;
use buttress::health::Health;
use buttress_http::client_key::AddressKey;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::{BoxError, Service};

use crate::descriptors;
use crate::race::first;
use accept::Door;
use connection::{Connections, Stage};
pub(crate) use connection::{Draining, Secure};
use places::Places;

use crate::tunnel::Hold;

/// The greatest number of connections, if the process has enough descriptors.
const MAX_CONNECTIONS: usize = 10_000;

/// Serves a [`Proxy`](crate::Proxy), or layers around one, on a listener.
///
/// One port speaks HTTP/1.1 and h2. The proxy finds the address of the client in the
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
        max: None,
        max_per_address: 256,
        clock: Clock::default(),
        #[cfg(feature = "tls")]
        certificate: None,
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
    max: Option<usize>,
    max_per_address: usize,
    clock: Clock,
    #[cfg(feature = "tls")]
    certificate: Option<crate::Certificate>,
}

/// The numbers of a listener.
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
    setters! {
        /// Begins the drain when `signal` completes. Default: never.
        ///
        /// The listener closes then. Idle connections close. Requests that had begun finish, within the time of the
        /// drain: answers of HTTP/1.1 carry `Connection: close`, and connections of h2 get GOAWAY. A proxy answers
        /// requests that begin on an open connection with 503.
        until(signal: impl Future<Output = ()> + Send + 'static) => Box::pin(signal);

        /// Sets the longest time of the drain. Default: 30 seconds. Connections that have not ended then are cut off.
        drain(limit: Duration);

        /// Reports `health` as draining from the beginning of the drain: its readiness is 503 then, also on other
        /// listeners, and its liveness stays. Default: none.
        health(health: Health) => Some(health);

        /// Sets the longest time until a client has sent the head of a request. Default: 10 seconds.
        ///
        /// The time begins with the connection, again with its first byte, and on HTTP/1.1 with the end of each answer,
        /// on h2 with the end of the last open request. So it also closes a connection without a first byte, and one
        /// that stays unused.
        head_limit(limit: Duration) sets head;

        /// Sets the greatest number of connections. Further connections are closed immediately and counted in
        /// [`Served::refused`].
        ///
        /// Default: 10 000, and on Linux no more than the process has file descriptors for, with two for each
        /// connection: one more for a backend, and 64 for everything else. With the usual soft limit of 1024 that gives
        /// 480 connections. The log says so; raise the limit (`ulimit -n`, `LimitNOFILE`). Requests of HTTP/2 need a
        /// connection to a backend each, so bound them with [`Route::max_concurrent`](crate::Route::max_concurrent).
        max_connections(connections: usize) sets max => Some(connections);

        /// Sets the greatest number of connections of one address. Default: 256. Further connections are
        /// closed immediately and counted in [`Served::refused`]. IPv6 addresses count by their first 64 bits.
        max_per_address(connections: usize);

        /// Speaks TLS 1.2 and 1.3 with this certificate, and nothing else. Default: no TLS.
        ///
        /// The client chooses HTTP/1.1 or HTTP/2 in the handshake (ALPN). The handshake is a part of the
        /// [`head_limit`](Self::head_limit). The proxy writes `X-Forwarded-Proto: https`.
        #[cfg(feature = "tls")]
        #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
        tls(certificate: crate::Certificate) sets certificate => Some(certificate);

        /// Sets the clock of the drain and of the first byte. Default: tokio's.
        clock(clock: Clock);
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
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
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
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    async fn run(self) -> Served {
        let (stage, stages) = watch::channel(Stage::Running);
        // A dropped future cuts its connections off.
        let stage = Cut(stage);
        let places = Places::new(most_connections(self.max), self.max_per_address);
        let (head, clock) = (self.head, self.clock.clone());
        let connections = Connections {
            service: self.service,
            head,
            clock,
            stages,
            #[cfg(feature = "tls")]
            certificate: self.certificate,
        };
        let cut = Arc::new(AtomicU64::new(0));
        let mut served = Served::default();
        let mut until = self.until;
        let mut door = Door::new(self.listener, self.clock.clone());
        while let Some((io, peer)) = first(pin!(door.next()), until.as_mut()).await {
            let Some(place) = places.take(AddressKey::from(peer.ip())) else {
                served.refused += 1;
                continue;
            };
            served.accepted += 1;
            // A connection without the option is served nevertheless, only slower.
            drop(io.set_nodelay(true));
            let cut = Arc::clone(&cut);
            let hold = Arc::new(Hold::new(place, cut));
            tokio::spawn(serve_one(connections.clone(), io, peer.ip(), hold));
        }
        if let Some(health) = &self.health {
            health.drain();
        }
        drop(door);
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

/// Returns the greatest number of connections, and warns if the descriptors of the process do not suffice for it.
fn most_connections(asked: Option<usize>) -> usize {
    let wanted = asked.unwrap_or(MAX_CONNECTIONS);
    let Some(possible) = descriptors::clients().filter(|possible| *possible < wanted) else {
        return wanted;
    };
    tracing::warn!(
        wanted,
        possible,
        "the process has too few file descriptors for the connections of the listener; raise its limit"
    );
    if asked.is_some() { wanted } else { possible }
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
    hold: Arc<Hold>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let stages = connections.stages.clone();
    let has_ended = connections.serve(io, peer, Arc::clone(&hold)).await;
    if !has_ended {
        hold.count_cut();
    }
    // The listener waits for the last of these, so the place is free by then, unless a tunnel needs it.
    drop(hold);
    drop(stages);
}
