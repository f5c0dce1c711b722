//! `Idempotency-Key` on a router of axum, over real sockets: one handler call per key, across
//! clients, connections and routes.

mod outage;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use buttress::Clock;
use buttress::idempotency::{Encoded, MemoryStore};
use buttress::retry::{self, RetryLayer};
use buttress_http::idempotency_key::ResponseCodec;
use buttress_http::{HttpLayerExt, IdempotencyKeyLayer, SetIdempotencyKeyLayer};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Semaphore, mpsc};
use tower::{ServiceBuilder, ServiceExt};

/// Serves on its own port and returns the address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Sends a request over a separate connection, and returns status, header and body.
async fn send(request: Request) -> Response<String> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
}

fn pay(url: &str, key: &str, body: &'static str) -> Request {
    Request::post(format!("{url}/pay")).header("idempotency-key", key).body(body.into()).unwrap()
}

fn brief(response: &Response<String>) -> (u16, &str, bool) {
    let replayed = response.headers().contains_key("idempotency-replayed");
    (response.status().as_u16(), response.body(), replayed)
}

/// Waits in real time, with a bound.
async fn until<F: Future<Output = bool>>(what: impl Fn() -> F) {
    for _ in 0..12_000 {
        if what().await {
            return;
        }
        Clock::default().sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen in a minute");
}

/// A handler that counts its calls, and holds them until it is opened.
#[derive(Clone)]
struct Till {
    calls: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
    entered: mpsc::UnboundedSender<()>,
}

impl Till {
    fn new() -> (Self, mpsc::UnboundedReceiver<()>) {
        let (entered, enters) = mpsc::unbounded_channel();
        (Self { calls: Arc::default(), open: Arc::new(Semaphore::new(0)), entered }, enters)
    }

    fn opened() -> Self {
        let (till, _) = Self::new();
        till.open.add_permits(1000);
        till
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn charge(self, amount: String) -> impl IntoResponse {
        let charge = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = self.entered.send(());
        self.open.acquire().await.unwrap().forget();
        let cookies = [("set-cookie", "a=1"), ("location", "/charges/1")];
        (StatusCode::CREATED, cookies, format!("charge {charge} of {amount}"))
    }

    fn router(&self) -> Router {
        let till = self.clone();
        let charge = move |amount: String| till.clone().charge(amount);
        Router::new().route("/pay", post(charge)).route("/", get(async || "hello"))
    }
}

fn layer() -> IdempotencyKeyLayer {
    let config = IdempotencyKeyLayer::config().key_required(true);
    IdempotencyKeyLayer::unscoped(config, MemoryStore::default()).unwrap()
}

#[tokio::test]
async fn a_response_is_replayed_over_the_wire_and_refusals_have_their_status() {
    let (till, bytes) = (Till::opened(), Encoded::new(MemoryStore::default(), ResponseCodec));
    let config = IdempotencyKeyLayer::config().key_required(true);
    let layer = IdempotencyKeyLayer::unscoped(config, bytes).unwrap().request_cap(10);
    let url = serve(till.router().layer(layer)).await;
    let first = send(pay(&url, "\"k\"", "7 EUR")).await;
    assert_eq!(brief(&first), (201, "charge 1 of 7 EUR", false));
    let again = send(pay(&url, "\"k\"", "7 EUR")).await;
    assert_eq!(brief(&again), (201, "charge 1 of 7 EUR", true));
    assert!(first.headers().contains_key("set-cookie"));
    assert!(!again.headers().contains_key("set-cookie"), "it belongs to the first caller");
    for name in ["location", "content-type", "content-length"] {
        assert_eq!(again.headers()[name], first.headers()[name], "{name}");
    }
    assert!(again.headers().contains_key("date"), "of the server");

    let refused = [
        (pay(&url, "\"k\"", "8 EUR"), 422, "key-reused"),
        (pay(&url, "\"k", "7 EUR"), 400, "key-invalid"),
        (pay(&url, "k", "more than 10"), 413, "body-too-large"),
        (Request::post(format!("{url}/pay")).body("7 EUR".into()).unwrap(), 400, "key-missing"),
    ];
    for (request, status, kind) in refused {
        let refused = send(request).await;
        assert_eq!(refused.status(), status);
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        assert!(refused.body().contains(kind), "{}", refused.body());
    }
    let safe = send(Request::get(format!("{url}/")).body(Body::empty()).unwrap()).await;
    assert_eq!(brief(&safe), (200, "hello", false));
    assert_eq!(till.calls(), 1);
}

#[tokio::test]
async fn of_eight_at_once_one_runs_and_the_others_hear_that_it_does() {
    let (till, mut enters) = Till::new();
    let url = serve(till.router().layer(layer())).await;
    let (reply, mut answers) = mpsc::unbounded_channel();
    for _ in 0..8 {
        let (reply, request) = (reply.clone(), pay(&url, "k", "7 EUR"));
        tokio::spawn(async move { reply.send(send(request).await).unwrap() });
    }
    enters.recv().await.unwrap();
    for _ in 0..7 {
        let refused = answers.recv().await.unwrap();
        assert_eq!(refused.status(), 409);
        assert_eq!(refused.headers()["retry-after"], "1");
    }
    till.open.add_permits(1);
    assert_eq!(brief(&answers.recv().await.unwrap()), (201, "charge 1 of 7 EUR", false));
    assert_eq!(brief(&send(pay(&url, "k", "7 EUR")).await), (201, "charge 1 of 7 EUR", true));
    assert_eq!(till.calls(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_the_response_of_its_detached_handler() {
    let (till, mut enters) = Till::new();
    let config = IdempotencyKeyLayer::config();
    let layer = IdempotencyKeyLayer::unscoped(config, MemoryStore::default()).unwrap().detached();
    let url = serve(till.router().layer(layer.clone())).await;
    let call = tokio::spawn(send(pay(&url, "k", "7 EUR")));
    enters.recv().await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(send(pay(&url, "k", "7 EUR")).await.status(), 409, "it runs on");
    till.open.add_permits(1);
    until(async || layer.handle().stats().in_flight == 0).await;
    assert_eq!(brief(&send(pay(&url, "k", "7 EUR")).await), (201, "charge 1 of 7 EUR", true));
    assert_eq!(till.calls(), 1);
}

#[tokio::test]
async fn users_do_not_get_each_others_responses() {
    #[derive(Clone)]
    struct User(String);
    /// Stands for an authentication layer.
    async fn authenticate(mut request: Request, next: Next) -> impl IntoResponse {
        let user = request.headers()["authorization"].to_str().unwrap().to_owned();
        request.extensions_mut().insert(User(user));
        next.run(request).await
    }
    let scope =
        |head: &axum::http::request::Parts| head.extensions.get::<User>().unwrap().0.clone();
    let config = IdempotencyKeyLayer::config();
    let layer = IdempotencyKeyLayer::new(config, MemoryStore::default(), scope).unwrap();
    let till = Till::opened();
    // The last layer of a router is the outermost.
    let url = serve(till.router().layer(layer).layer(from_fn(authenticate))).await;
    let ask = async |user: &'static str| {
        let mut request = pay(&url, "k", "7 EUR");
        request.headers_mut().insert("authorization", user.parse().unwrap());
        send(request).await
    };
    assert_eq!(brief(&ask("ann").await), (201, "charge 1 of 7 EUR", false));
    assert_eq!(brief(&ask("bob").await), (201, "charge 2 of 7 EUR", false));
    assert_eq!(brief(&ask("ann").await), (201, "charge 1 of 7 EUR", true));
    assert_eq!(brief(&ask("bob").await), (201, "charge 2 of 7 EUR", true));
}

/// The purpose of the layer: the first attempt does its work and its answer is lost. The retry
/// carries the same key, and the payment happens once.
#[tokio::test]
async fn a_retry_after_a_lost_response_gets_it_and_the_work_is_done_once() {
    let till = Till::opened();
    // A failing proxy: the answer to the first attempt is lost.
    let lost = Arc::new(AtomicUsize::new(0));
    let losing = lost.clone();
    let lose_first = from_fn(move |request: Request, next: Next| {
        let losing = losing.clone();
        async move {
            let response = next.run(request).await;
            match losing.fetch_add(1, Ordering::SeqCst) {
                0 => StatusCode::BAD_GATEWAY.into_response(),
                _ => response,
            }
        }
    });
    let url = serve(till.router().layer(layer()).layer(lose_first)).await;
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new()
        .layer(SetIdempotencyKeyLayer::default())
        .layer(
            RetryLayer::new(
                retry::Config::new().backoff(retry::Backoff::fixed(Duration::from_millis(1))),
            )
            .unwrap()
            .http(),
        )
        .map_request(|request: axum::http::Request<String>| request.map(Body::from))
        .service(hyper);
    let request = axum::http::Request::post(format!("{url}/pay")).body("7 EUR".to_owned()).unwrap();
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["idempotency-replayed"], "true");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "charge 1 of 7 EUR");
    assert_eq!((till.calls(), lost.load(Ordering::SeqCst)), (1, 2));
}
