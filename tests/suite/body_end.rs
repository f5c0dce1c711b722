//! Calls that are over when the body ends, over real sockets: axum and hyper on both sides.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use axum::routing::get;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress_http::{BodyEnd, ByStatus, HoldBodyLayer, HttpLayerExt};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tower::{BoxError, ServiceBuilder, ServiceExt};

type Frames = mpsc::UnboundedSender<Result<&'static str, BoxError>>;

/// A body of the frames that a test sends.
struct Channel {
    frames: mpsc::UnboundedReceiver<Result<&'static str, BoxError>>,
    /// Announced, if the length is known.
    left: Option<u64>,
}

impl hyper::body::Body for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.frames.poll_recv(cx).map_ok(|text| {
            self.left = self.left.map(|left| left - text.len() as u64);
            Frame::data(text.into())
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

/// A server whose answers to `/` have bodies that the test writes. It holds one permit until the end
/// of a body, and its circuit counts then.
struct Served {
    url: String,
    bodies: mpsc::UnboundedReceiver<Frames>,
    permits: bulkhead::Handle,
    circuit: circuit_breaker::Handle,
}

async fn serve(length: Option<u64>) -> Served {
    let (opened, bodies) = mpsc::unbounded_channel();
    let handler = move || {
        let (frames, receiver) = mpsc::unbounded_channel();
        opened.send(frames).unwrap();
        async move { Body::new(Channel { frames: receiver, left: length }) }
    };
    let bulkhead = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let breaker = CircuitBreakerLayer::new(circuit_breaker::Config::new().count_calls(true));
    let breaker = breaker.unwrap();
    let (permits, circuit) = (bulkhead.handle(), breaker.handle());
    let router = Router::new().route("/", get(handler)).layer(
        ServiceBuilder::new()
            .layer(breaker.http().until(BodyEnd::new()))
            .layer(bulkhead.http().until(BodyEnd::new()))
            .layer(HoldBodyLayer),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Served { url, bodies, permits, circuit }
}

impl Served {
    async fn get(&self) -> Response<Incoming> {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        client.request(Request::get(&self.url).body(Body::empty()).unwrap()).await.unwrap()
    }

    /// The permits in use, and the failures and successes of the circuit.
    fn numbers(&self) -> (u32, u64, u64) {
        let circuit = self.circuit.stats();
        (self.permits.stats().active, circuit.failures, circuit.successes.unwrap())
    }
}

async fn event(response: &mut Response<Incoming>) -> Bytes {
    response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn a_stream_of_events_holds_its_permit_until_it_ends() {
    let mut served = serve(None).await;
    let mut response = served.get().await;
    let frames = served.bodies.recv().await.unwrap();
    frames.send(Ok("data: 1\n\n")).unwrap();
    assert_eq!(event(&mut response).await, "data: 1\n\n", "before the second one is sent");
    assert_eq!(served.numbers(), (1, 0, 0));
    let refused = served.get().await;
    assert_eq!(refused.status().as_u16(), 503, "the stream has the only permit");
    frames.send(Ok("data: 2\n\n")).unwrap();
    assert_eq!(event(&mut response).await, "data: 2\n\n");
    assert_eq!(served.numbers(), (1, 0, 0));
    drop(frames);
    assert!(response.body_mut().frame().await.is_none());
    assert_eq!(served.numbers(), (0, 0, 1));
    assert_eq!(served.get().await.status().as_u16(), 200);
}

/// A response whose first frame was read, with the sender of its other frames.
async fn half_read() -> (Served, Response<Incoming>, Frames) {
    let mut served = serve(None).await;
    let mut response = served.get().await;
    let frames = served.bodies.recv().await.unwrap();
    frames.send(Ok("half")).unwrap();
    assert_eq!(event(&mut response).await, "half");
    (served, response, frames)
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_failure_for_the_reader_and_for_the_circuit() {
    let (served, mut response, frames) = half_read().await;
    frames.send(Err("gone".into())).unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_err());
    assert_eq!(served.numbers(), (0, 1, 0));
}

#[tokio::test]
async fn a_reader_that_leaves_returns_the_permit_and_is_no_failure() {
    let (served, response, frames) = half_read().await;
    drop(response);
    frames.closed().await;
    assert_eq!(served.numbers(), (0, 0, 0));
}

/// hyper stops polling a body at its announced length.
#[tokio::test]
async fn a_body_of_a_known_length_ends_at_its_length() {
    let mut served = serve(Some(4)).await;
    let response = served.get().await;
    let frames = served.bodies.recv().await.unwrap();
    frames.send(Ok("all ")).unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "all ");
    frames.closed().await;
    assert_eq!(served.numbers(), (0, 0, 1));
}

/// axum drops the body of the handler outside of all layers.
#[tokio::test]
async fn an_answer_to_head_whose_body_the_server_drops_counts_as_dropped() {
    let mut served = serve(None).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::head(&served.url).body(Body::empty()).unwrap();
    assert_eq!(client.request(request).await.unwrap().status().as_u16(), 200);
    served.bodies.recv().await.unwrap().closed().await;
    assert_eq!(served.numbers(), (0, 0, 0));
}

/// The layers around a client: the server announces ten bytes, sends five, and closes.
#[tokio::test]
async fn an_answer_that_is_cut_off_is_a_failure_of_the_remote() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
    });
    let breaker = circuit_breaker::Config::new().count_calls(true).build().unwrap();
    let circuit = breaker.handle();
    let client = ServiceBuilder::new()
        .layer(breaker.classify(ByStatus::client()).until(BodyEnd::new()))
        .layer(HoldBodyLayer)
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let response = client.oneshot(Request::get(url).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.body().size_hint().exact(), Some(10));
    assert_eq!((circuit.stats().failures, circuit.stats().successes), (0, Some(0)));
    assert!(response.into_body().collect().await.is_err());
    assert_eq!((circuit.stats().failures, circuit.stats().successes), (1, Some(0)));
}
