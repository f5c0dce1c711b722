//! One layer value on a router of axum. The limit is shared by routes and connections, and no
//! `HandleErrorLayer` is needed. Tests of connections use real sockets, tests of times a paused
//! clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{CircuitState, Clock};
use buttress_http::HttpLayerExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Semaphore, mpsc};
use tower::{ServiceBuilder, ServiceExt};

use crate::support::{Watch, ms};

const HOUR: u64 = 3_600_000;

/// Serves on its own port and returns the address.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Fetches over a separate connection.
async fn fetch(url: String) -> Response<impl Sized> {
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    client.request(Request::get(url).body(Body::empty()).unwrap()).await.unwrap()
}

async fn status(url: &str) -> u16 {
    fetch(url.to_owned()).await.status().as_u16()
}

/// Counts the requests inside, and holds them until it is opened.
#[derive(Clone)]
struct Gate {
    inside: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        let (inside, peak) = (Arc::default(), Arc::default());
        Self { inside, peak, open: Arc::new(Semaphore::new(0)) }
    }

    async fn pass(self) -> &'static str {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(inside, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
        self.inside.fetch_sub(1, Ordering::SeqCst);
        "passed"
    }
}

#[tokio::test]
async fn a_bulkhead_on_a_router_holds_over_routes_and_connections() {
    let wall = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(3)).unwrap();
    let gate = Gate::new();
    let handler = |gate: Gate| get(move || gate.clone().pass());
    let router = Router::new()
        .route("/a", handler(gate.clone()))
        .route("/b", handler(gate.clone()))
        .layer(wall.clone().http());
    let url = serve(router).await;
    let (reply, mut statuses) = mpsc::unbounded_channel();
    for n in 0..8 {
        let (reply, url) = (reply.clone(), format!("{url}/{}", if n % 2 == 0 { "a" } else { "b" }));
        tokio::spawn(async move { reply.send(status(&url).await).unwrap() });
    }
    for _ in 0..5 {
        assert_eq!(statuses.recv().await, Some(503), "refused while three are inside");
    }
    gate.open.add_permits(3);
    for _ in 0..3 {
        assert_eq!(statuses.recv().await, Some(200));
    }
    assert_eq!(gate.peak.load(Ordering::SeqCst), 3);
    let stats = wall.handle().stats();
    assert_eq!((stats.active, stats.peak_active, stats.refused), (0, 3, 5));
}

#[tokio::test]
async fn a_breaker_on_a_router_opens_over_connections() {
    let config = circuit_breaker::Config::new().open_for(ms(HOUR)).name("orders");
    let breaker = CircuitBreakerLayer::new(config).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let handler = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::INTERNAL_SERVER_ERROR }
    };
    let url = serve(Router::new().route("/", get(handler)).layer(breaker.clone().http())).await;
    for _ in 0..5 {
        assert_eq!(breaker.handle().state(), CircuitState::Closed);
        assert_eq!(status(&url).await, 500, "the service's own answer, unchanged");
    }
    assert_eq!(breaker.handle().state(), CircuitState::Open);
    let refused = fetch(url).await;
    assert_eq!(refused.status().as_u16(), 503);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&after), "retry after {after} s");
    assert_eq!(calls.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn eight_routes_with_one_limiter_share_its_tokens() {
    let config = rate_limit::Config::new().max_tokens(5).refill(1, ms(HOUR));
    let limiter = RateLimitLayer::new(config).unwrap();
    let router = (0..8).fold(Router::new(), |router, n| {
        let route = get(async || "served").layer(limiter.clone().http());
        router.route(&format!("/{n}"), route)
    });
    let url = serve(router).await;
    let mut served = Vec::new();
    for n in 0..8 {
        served.push(status(&format!("{url}/{n}")).await);
    }
    assert_eq!(served, [200, 200, 200, 200, 200, 429, 429, 429]);
    let refused = fetch(format!("{url}/0")).await;
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&after), "retry after {after} s");
}

/// Sends a message when it is dropped.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_gives_its_permit_back() {
    let wall = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let (entered, mut enters) = mpsc::unbounded_channel();
    let (left, mut leaves) = mpsc::unbounded_channel();
    let handler = move || {
        let (entered, left) = (entered.clone(), Dropped(left.clone()));
        async move {
            entered.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(left);
        }
    };
    let url = serve(Router::new().route("/", get(handler)).layer(wall.clone().http())).await;
    let call = tokio::spawn(fetch(url.clone()));
    enters.recv().await.unwrap();
    assert_eq!(wall.handle().stats().active, 1);
    assert_eq!(status(&url).await, 503);
    call.abort();
    leaves.recv().await.unwrap();
    assert_eq!(wall.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stack_on_a_router_answers_for_itself_at_its_instants() {
    let limit = TimeLimitLayer::new(time_limit::Config::new(ms(100))).unwrap();
    let config = circuit_breaker::Config::new().consecutive_failures(2).open_for(ms(1000));
    let breaker = CircuitBreakerLayer::new(config).unwrap();
    let limiter = RateLimitLayer::default();
    let stack = ServiceBuilder::new()
        .layer(limiter.clone().http())
        .layer(breaker.clone().http())
        .layer(BulkheadLayer::default().http())
        .layer(limit.http());
    let router = Router::new()
        .route("/fast", get(async || "fast"))
        .route("/slow", get(async || Clock::default().sleep(ms(101)).await))
        .layer(stack);
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(ask("/fast").await.status(), StatusCode::OK);
    let watch = Watch::start();
    for ended in [100, 200] {
        assert_eq!(ask("/slow").await.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(watch.ms(), ended);
    }
    let refused = ask("/fast").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    tokio::time::advance(ms(999)).await;
    assert_eq!(ask("/fast").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::advance(ms(1)).await;
    assert_eq!(ask("/fast").await.status(), StatusCode::OK, "the probe");
    limiter.handle().try_acquire(limiter.handle().available()).unwrap();
    assert_eq!(ask("/fast").await.status(), StatusCode::TOO_MANY_REQUESTS);
}

/// Regression: a route has no errors, so a fallback for errors only was accepted with `.http()` and
/// never answered.
#[tokio::test(start_paused = true)]
async fn a_fallback_on_a_route_answers_for_a_503() {
    type Answer = Result<Response<Body>, std::convert::Infallible>;
    let cached = |failed: Answer| {
        failed.map(|response| match response.status() {
            StatusCode::SERVICE_UNAVAILABLE => Response::new(Body::from("cached")),
            _ => response,
        })
    };
    let fallback = FallbackLayer::from_result(cached).http();
    let breaker = CircuitBreakerLayer::default();
    let router = Router::new()
        .route("/", get(async || StatusCode::SERVICE_UNAVAILABLE))
        .route("/well", get(async || "well"))
        .layer(ServiceBuilder::new().layer(fallback.clone()).layer(breaker.clone().http()));
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 100).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(ask("/").await, (200, "cached".to_owned()));
    assert_eq!(ask("/well").await, (200, "well".to_owned()));
    breaker.handle().force_open();
    assert_eq!(ask("/well").await, (200, "cached".to_owned()), "for a refusal too");
    assert_eq!(fallback.handle().stats().used, 2);
}

/// Both layers are exhausted: the outermost answers.
#[tokio::test]
async fn the_last_layer_of_a_router_is_outermost_and_the_first_of_a_builder() {
    let limiter = RateLimitLayer::new(rate_limit::Config::new().max_tokens(1)).unwrap();
    limiter.handle().try_acquire(1).unwrap();
    let wall = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let _taken = wall.handle().try_acquire().unwrap();
    let route = || Router::new().route("/", get(|| async { "passed" }));

    let one_by_one = route().layer(limiter.clone().http()).layer(wall.clone().http());
    let together = ServiceBuilder::new().layer(limiter.http()).layer(wall.http());
    for (router, outermost) in [(one_by_one, 503), (route().layer(together), 429)] {
        let answer = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await;
        assert_eq!(answer.unwrap().status().as_u16(), outermost);
    }
}
