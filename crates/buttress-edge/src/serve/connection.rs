//! One connection of a listener, from its first byte to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use buttress::Clock;
use buttress_http::client_key::PeerAddr;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::{BoxError, Service};

use super::rewind::sniff;
use crate::race::first;

/// The longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;
/// The same on h2, where each field counts 32 bytes more.
const HEAD_OF_H2: u32 = 16 * 1024;
/// The greatest number of header fields.
const FIELDS: usize = 100;
/// The greatest number of requests at the same time on a connection of h2.
const STREAMS: u32 = 100;

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

/// What all connections of a listener share.
#[derive(Clone, Debug)]
pub(crate) struct Connections<S> {
    pub(crate) service: S,
    pub(crate) head: Duration,
    pub(crate) clock: Clock,
    pub(crate) stages: watch::Receiver<Stage>,
}

impl<S, B> Connections<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves a connection to its end. Returns `false` if the drain cut it off.
    pub(crate) async fn serve<Io>(self, io: Io, peer: IpAddr) -> bool
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, head, clock, stages } = self;
        let sniffed = {
            let (sniffed, late) = (pin!(sniff(io)), pin!(clock.sleep(head)));
            let sniffed = pin!(first(sniffed, late));
            first(sniffed, pin!(reached(&stages, Stage::Draining))).await
        };
        // The client said too little in time, or left. Nothing of a request is lost.
        let Some(Some(Ok((io, is_h2)))) = sniffed else { return true };
        let now = stages.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            if *now.borrow() >= Stage::Draining {
                request.extensions_mut().insert(Draining);
            }
            answer(service.clone(), request, peer)
        });
        let io = TokioIo::new(io);
        if is_h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
            builder.max_header_list_size(HEAD_OF_H2);
            drive(pin!(builder.serve_connection(io, service)), &stages).await
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(head);
            builder.max_headers(FIELDS).max_header_size(HEAD);
            drive(pin!(builder.serve_connection(io, service)), &stages).await
        }
    }
}

/// Polls a connection to its end. Returns `false` if the drain cut it off.
async fn drive<C>(mut connection: Pin<&mut C>, stages: &watch::Receiver<Stage>) -> bool
where
    C: GracefulConnection,
    C::Error: std::fmt::Debug,
{
    let mut ended = first(connection.as_mut(), pin!(reached(stages, Stage::Draining))).await;
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = first(connection, pin!(reached(stages, Stage::Over))).await;
    }
    if let Some(Err(error)) = &ended {
        tracing::debug!(?error, "a connection of a client ended with an error");
    }
    ended.is_some()
}

/// Answers a request that knows the address of its peer.
fn answer<S, B>(
    mut service: S,
    mut request: Request<Incoming>,
    peer: IpAddr,
) -> impl Future<Output = Result<Response<B>, Infallible>> + Send
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send,
    S::Future: Send,
{
    request.extensions_mut().insert(PeerAddr(peer));
    async move {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    }
}
