//! One connection of a listener, from its first byte to its end.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use buttress::Clock;
use buttress_http::client_key::PeerAddr;
use bytes::Bytes;
use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::{BoxError, Service};

use super::open::Open;
use super::paced::Paced;
use super::rewind::sniff;
use super::stream::Answering;
use crate::race::{Either, first};
use crate::tunnel::{Hold, Line};

/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;
/// The same on h2, where each field counts 32 bytes more.
const HEAD_OF_H2: u32 = 16 * 1024;
/// The greatest number of header fields.
const FIELDS: usize = 100;
/// The greatest number of requests at the same time on a connection of h2.
const STREAMS: u32 = 100;
/// The most bytes of answers that wait for a client: of a connection of HTTP/1.1, and of each stream of h2.
const BUFFER: usize = 64 * 1024;

/// How far the end of a listener has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    Running,
    /// No new requests.
    Draining,
    /// The time of the drain is over.
    Over,
}

/// The mark of a request that began during the drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draining;

/// Waits until the listener has come as far as `stage`.
pub(crate) async fn reached(stages: &watch::Receiver<Stage>, stage: Stage) {
    // A sender that is gone was dropped with the listener.
    drop(stages.clone().wait_for(|now| *now >= stage).await);
}

/// The state that all connections of a listener share.
#[derive(Clone, Debug)]
pub(crate) struct Connections<S> {
    pub service: S,
    pub head: Duration,
    pub clock: Clock,
    pub stages: watch::Receiver<Stage>,
    #[cfg(feature = "tls")]
    pub certificate: Option<crate::Certificate>,
}

/// The mark of a request that came over TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secure;

/// A client, as its connection knows it.
struct Client {
    peer: IpAddr,
    is_secure: bool,
    hold: Arc<Hold>,
}

impl<S, B> Connections<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// Serves a connection to its end. Returns `false` if the drain cut it off.
    pub(crate) async fn serve<Io>(self, io: Io, peer: IpAddr, hold: Arc<Hold>) -> bool
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = Client { peer, is_secure: false, hold };
        let late = self.clock.sleep(self.head);
        #[cfg(feature = "tls")]
        if let Some(certificate) = self.certificate.clone() {
            let client = Client { is_secure: true, ..client };
            // On the heap, like the rest: other connections have no handshake.
            let accepted = Box::pin(certificate.accept(io));
            let begun = begin(accepted, late, &self.stages).await;
            return match begun {
                Some((io, is_h2)) => self.run(io, is_h2, client).await,
                None => true,
            };
        }
        let begun = begin(sniff(io), late, &self.stages).await;
        match begun {
            Some((io, is_h2)) => self.run(io, is_h2, client).await,
            None => true,
        }
    }

    /// Returns the rest of a connection. It is on the heap, so that a connection of which nothing is known yet takes little
    /// memory, and one of HTTP/1.1 none for h2.
    fn run<Io>(
        self,
        io: Io,
        is_h2: bool,
        client: Client,
    ) -> Pin<Box<dyn Future<Output = bool> + Send>>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, head, clock, stages, .. } = self;
        let Client { peer, is_secure, hold } = client;
        let now = stages.clone();
        let service = move |mut request: Request<Incoming>| {
            if *now.borrow() >= Stage::Draining {
                request.extensions_mut().insert(Draining);
            }
            if is_secure {
                request.extensions_mut().insert(Secure);
            }
            if request.headers().contains_key(UPGRADE) {
                let line = Line { stages: now.clone(), hold: Arc::clone(&hold) };
                request.extensions_mut().insert(line);
            }
            answer(service.clone(), request, peer)
        };
        let io = TokioIo::new(Paced::new(io, clock.clone()));
        if is_h2 {
            let open = Open::new(&clock);
            let mut builder = http2::Builder::new(open.clone());
            builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
            builder.max_header_list_size(HEAD_OF_H2).max_send_buf_size(BUFFER);
            let service = service_fn(move |request| Answering { future: service(request) });
            let mut connection = Box::pin(builder.serve_connection(io, service));
            Box::pin(async move {
                let unused = || open.unused(head);
                let drain = http2::Connection::graceful_shutdown;
                drive(connection.as_mut(), drain, &stages, unused).await
            })
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(head);
            builder.max_headers(FIELDS).max_header_size(HEAD).max_buf_size(BUFFER);
            let connection = builder.serve_connection(io, service_fn(service)).with_upgrades();
            let mut connection = Box::pin(connection);
            Box::pin(async move {
                // The time of the head ends an unused one.
                let drain = http1::UpgradeableConnection::graceful_shutdown;
                drive(connection.as_mut(), drain, &stages, pending::<()>).await
            })
        }
    }
}

/// Waits until the protocol of a connection is known. `None` if the client said too little in time, or left, or the drain
/// began. Nothing of a request is lost then.
async fn begin<Io>(
    begun: impl Future<Output = io::Result<(Io, bool)>>,
    late: buttress::Sleep,
    stages: &watch::Receiver<Stage>,
) -> Option<(Io, bool)> {
    let (begun, late) = (pin!(begun), pin!(late));
    let begun = pin!(first(begun, late));
    let begun = first(begun, pin!(reached(stages, Stage::Draining))).await??;
    begun.inspect_err(note).ok()
}

/// Polls a connection to its end. Returns `false` if the drain cut it off. `unused` waits until the connection has been
/// unused for too long, or its client has reset too many requests.
async fn drive<C: Future<Output = hyper::Result<()>>, U: Future<Output = ()>>(
    mut connection: Pin<&mut C>,
    drain: fn(Pin<&mut C>),
    stages: &watch::Receiver<Stage>,
    unused: impl Fn() -> U,
) -> bool {
    let (drains, is_unused) = (pin!(reached(stages, Stage::Draining)), pin!(unused()));
    let mut ended = first(
        connection.as_mut(),
        pin!(async {
            first(drains, is_unused).await;
        }),
    )
    .await;
    if ended.is_none() {
        drain(connection.as_mut());
        // The client need not say that it leaves.
        let (over, is_unused) = (pin!(reached(stages, Stage::Over)), pin!(unused()));
        ended = first(
            connection,
            pin!(async {
                first(over, is_unused).await;
            }),
        )
        .await;
    }
    if ended.is_none() && *stages.borrow() < Stage::Over {
        return true;
    }
    if let Some(Err(error)) = &ended {
        note(error);
    }
    ended.is_some()
}

fn note<E: fmt::Debug>(error: &E) {
    tracing::debug!(?error, "a connection of a client ended with an error");
}

/// Answers a request that knows the address of its peer.
///
/// A service that is ready now is called now: a future that held the request until its first poll would be copied with
/// it.
fn answer<S, B>(
    mut service: S,
    mut request: Request<Incoming>,
    peer: IpAddr,
) -> impl Future<Output = Result<Response<B>, Infallible>> + Send
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: 'static,
{
    request.extensions_mut().insert(PeerAddr(peer));
    let is_ready = service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready();
    if is_ready {
        return Either::Left { future: service.call(request) };
    }
    // This poll lets the task know when the service is ready.
    let future = Box::pin(async move {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    });
    Either::Right { future }
}
