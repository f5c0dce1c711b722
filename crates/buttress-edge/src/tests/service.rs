//! Routes to services of the process: what a service gets, and what its answers become.

mod aggregate;
mod panics;

use std::convert::Infallible;
use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::context::Context;
use buttress::health::{Status, Watch};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::{CircuitState, Clock, retry, shadow, split};
use buttress_http::client_key::PeerAddr;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service, service_fn};

use super::support::{Edge, field, get, status};
use crate::serve::connection::Stage;
use crate::{
    Admission, Admit, Body, Config, Denied, Proxy, RefusedStats, Route, RouteShadow, RouteSplit,
    RouteStats, Subject, Upstream,
};

/// A service of a closure.
fn service<F, A>(
    answer: F,
) -> impl Service<
    Request<Body>,
    Response = Response<Body>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Body>, BoxError>> + Send,
> + Clone
+ Send
+ Sync
+ 'static
where
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
{
    service_fn(answer)
}

fn text(text: impl Into<String>) -> Result<Response<Body>, BoxError> {
    Ok(Response::new(Body::from(text.into())))
}

fn edge(route: Route) -> Edge {
    Edge::new(Config::new(), [route])
}

fn local<F, A>(answer: F) -> Route
where
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
{
    Route::new("all").to_service(service(answer))
}

async fn ask(edge: &Edge, request: &str) -> (u16, String) {
    let (head, body) = edge.open().exchange(request).await;
    (status(&head), body)
}

fn stats(edge: &Edge) -> RouteStats {
    edge.proxy.stats()[0].1
}

/// Admits everyone with a credential as `me`.
#[derive(Debug)]
struct Staff;

impl Admit for Staff {
    fn admit(&self, mut request: Request<Body>) -> Admission {
        if request.headers().contains_key("authorization") {
            request.extensions_mut().insert(Subject::new("me").unwrap());
            return Admission::Now(Ok(request));
        }
        Admission::Now(Err(Denied::forbidden()))
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_service_gets_the_request_as_a_backend_would() {
    let route = local(async |request: Request<Body>| {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let field = |name: &str| {
            head.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned()
        };
        let fields =
            ["host", "x-user", "authorization", "x-forwarded-for", "via", "x-secret", "te"];
        let fields = fields.map(field).join(" ");
        let subject = head.extensions.get::<Subject>().map(Subject::as_str);
        let peer = head.extensions.get::<PeerAddr>().is_some();
        let upgrade = head.extensions.get::<OnUpgrade>().is_some();
        let left = Context::deadline().map(|at| at - Clock::default().now());
        let context = (Context::current().identity().map(str::to_owned), left);
        text(format!(
            "{} {} {fields} {body:?} {subject:?} {peer} {upgrade} {context:?}",
            head.method, head.uri
        ))
    });
    let route = route.prefix("/api/page").strip("/api").admit(Staff).forward_identity("x-user");
    let edge = edge(route.time_limit(Duration::from_secs(2)));
    let request = "POST http://shop.example/api/page/7?a=%2F HTTP/1.1\r\nHost: other\r\n\
                   Authorization: secret\r\nX-User: admin\r\nConnection: x-secret, te\r\nX-Secret: 1\r\n\
                   TE: gzip, trailers\r\nContent-Length: 3\r\n\r\nabc";
    let expected = "POST /page/7?a=%2F shop.example me - 192.0.2.7 1.1 buttress - trailers b\"abc\" \
                    Some(\"me\") true false (Some(\"me\"), Some(2s))";
    assert_eq!(ask(&edge, request).await, (200, expected.into()));
    let expected = RouteStats { begun: 1, answered: 1, ..RouteStats::default() };
    assert_eq!(stats(&edge), expected);
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_admission_limits_and_drain_stand_before_a_service() {
    let tokens = rate_limit::Config::new().max_tokens(6).refill(1, Duration::from_secs(3600));
    let limiter = RateLimitLayer::new(tokens).unwrap().handle();
    let route = local(async |request: Request<Body>| {
        text(format!("{} bytes", request.into_body().collect().await?.to_bytes().len()))
    });
    let route = route.admit(Staff).rate_limit(limiter).max_request_body(5);
    let edge = edge(route);
    let with = |fields: &str, body: &str| {
        format!("PUT / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\n{fields}\r\n\r\n{body}")
    };
    assert_eq!(ask(&edge, &get("/")).await.0, 403);
    assert_eq!(ask(&edge, &get("/a//b")).await.0, 400);
    assert_eq!(ask(&edge, &with("Content-Length: 5", "12345")).await, (200, "5 bytes".into()));
    assert_eq!(ask(&edge, &with("Content-Length: 6", "123456")).await.0, 413);
    // The service reads an error, and fails by it.
    let chunked = |body: &str| with("Transfer-Encoding: chunked", body);
    assert_eq!(ask(&edge, &chunked("6\r\n123456\r\n0\r\n\r\n")).await.0, 413);
    assert_eq!(ask(&edge, &chunked("2\r\n12\r\nnonsense")).await.0, 400);
    // The client sends no more of the body.
    assert_eq!(ask(&edge, &chunked("2\r\n12\r\n")).await.0, 408);

    let (stage, stages) = watch::channel(Stage::Running);
    let (mut client, _task) = edge.connect(&stages);
    client
        .write("PUT / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\nContent-Length: 1\r\n\r\n")
        .await;
    while stats(&edge).in_flight == 0 {
        tokio::task::yield_now().await;
    }
    stage.send_replace(Stage::Draining);
    client.write("1").await;
    let (head, body) = client.answer().await;
    assert_eq!((status(&head), &*body), (200, "1 bytes"));

    assert_eq!(ask(&edge, &with("Content-Length: 0", "")).await.0, 200);
    let (head, _) = edge.open().exchange(with("Content-Length: 0", "")).await;
    assert_eq!((status(&head), field(&head, "retry-after")), (429, Some("3540")));
    let refused =
        RefusedStats { forbidden: 1, bad_request: 3, rate_limited: 1, ..RefusedStats::default() };
    let expected =
        RouteStats { begun: 9, answered: 3, abandoned: 1, refused, ..RouteStats::default() };
    assert_eq!(stats(&edge), expected);
}

#[tokio::test(start_paused = true)]
async fn edge_2_43_a_request_that_begins_during_the_drain_does_not_reach_a_service() {
    let edge = edge(local(async |_| text("late")).public());
    let (_stage, stages) = watch::channel(Stage::Draining);
    let (mut client, _task) = edge.connect(&stages);
    client.write(get("/")).await;
    assert_eq!(status(&client.read_head().await), 503);
    assert_eq!(stats(&edge).refused.draining, 1);
}

#[tokio::test(start_paused = true)]
async fn edge_2_45_a_permit_is_held_until_the_body_of_a_service_has_ended() {
    let bulkhead = bulkhead::Config::new().max_concurrent(1);
    let bulkhead = BulkheadLayer::new(bulkhead).unwrap().handle();
    let (body, frames) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let frames = std::sync::Arc::new(std::sync::Mutex::new(Some(frames)));
    let route = local(move |_| {
        let mut frames = frames.lock().unwrap().take().unwrap();
        let stream = futures_util::stream::poll_fn(move |cx| {
            frames
                .poll_recv(cx)
                .map(|data| Some(Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(data?)))))
        });
        let body = Body::new(http_body_util::StreamBody::new(stream));
        std::future::ready(Ok(Response::new(body)))
    });
    let edge = edge(route.public().max_concurrent(bulkhead));
    let mut client = edge.open();
    client.write(get("/")).await;
    let head = client.read_head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(ask(&edge, &get("/")).await.0, 503);
    body.send("one").unwrap();
    assert_eq!(client.read_until("one\r\n").await, "3\r\none\r\n");
    assert_eq!(stats(&edge).in_flight, 1);
    drop(body);
    client.read_until("0\r\n\r\n").await;
    assert_eq!((stats(&edge).in_flight, stats(&edge).answered), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_failures_and_panics_of_a_service_are_502_and_open_the_circuit() {
    let circuit = CircuitBreakerLayer::default().handle();
    let route = local(async |request: Request<Body>| match request.uri().path() {
        "/panic" => panic!("on purpose"),
        "/switch" => Ok(Response::builder().status(101).body(Body::empty())?),
        "/coded" => {
            Ok(Response::builder().header("transfer-encoding", "gzip").body(Body::empty())?)
        }
        _ => Err("secret text of the error".into()),
    });
    let edge = edge(route.public().circuit_breaker(circuit.clone()));
    for path in ["/panic", "/switch", "/coded", "/"] {
        let (head, body) = edge.open().exchange(get(path)).await;
        assert_eq!(status(&head), 502, "{path}");
        assert!(body.contains(r#""kind":"upstream-failed""#) && !body.contains("secret"), "{body}");
    }
    assert_eq!(circuit.state(), CircuitState::Closed);
    // An upgrade is an ordinary request, whatever the service answers.
    let upgrade =
        "GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (head, _) = edge.open().exchange(upgrade).await;
    assert_eq!(status(&head), 502);
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=http_protocol_error"));
    assert_eq!(circuit.state(), CircuitState::Open);
    assert_eq!(ask(&edge, &get("/")).await.0, 503);
    let refused = RefusedStats { circuit_open: 1, ..RefusedStats::default() };
    let expected = RouteStats { begun: 6, failed: 5, refused, ..RouteStats::default() };
    assert_eq!(stats(&edge), expected);
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_service_has_the_limits_of_a_head_and_of_its_route() {
    let hangs = || local(async |_| std::future::pending().await).public();
    for (route, seconds) in [(hangs(), 10), (hangs().time_limit(Duration::from_secs(1)), 1)] {
        let edge = edge(route);
        let start = Clock::default().now();
        assert_eq!(ask(&edge, &get("/")).await.0, 504);
        assert_eq!((Clock::default().now() - start).as_secs(), seconds);
        assert_eq!(stats(&edge).failed, 1);
    }
    // A service that is never ready is one that never answers.
    let permits = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let busy = permits.handle().try_acquire().unwrap();
    let slow = service(async |_| text("ready"));
    let route = Route::new("all").to_service(permits.layer(slow)).public();
    let edge = edge(route);
    let (head, body) = edge.open().exchange(get("/")).await;
    // The refusal of a layer of the service is a refusal of the route.
    assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")));
    assert!(body.contains(r#""kind":"bulkhead-full""#), "{body}");
    assert_eq!((stats(&edge).refused.at_capacity, stats(&edge).failed), (1, 0));
    drop(busy);
    assert_eq!(ask(&edge, &get("/")).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_body_of_a_service_that_stops_fails_after_the_idle_limit() {
    let route = local(async |_| {
        let stream = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>();
        Ok(Response::new(Body::new(http_body_util::StreamBody::new(stream))))
    });
    let edge = edge(route.public());
    let mut client = edge.open();
    client.write(get("/")).await;
    client.read_head().await;
    let start = Clock::default().now();
    assert_eq!(client.read_to_end().await, "", "no clean end of the chunks");
    assert_eq!((Clock::default().now() - start).as_secs(), 60);
    assert_eq!(stats(&edge).failed, 1);
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_client_that_leaves_drops_the_call_of_a_service() {
    let (sender, mut dropped) = tokio::sync::mpsc::channel::<()>(1);
    let route = local(move |_| {
        let sender = sender.clone();
        async move {
            let _sender = sender;
            std::future::pending().await
        }
    });
    let edge = Edge::new(Config::new(), [route.public()]);
    let request = Request::get("/").header("host", "a").body(Body::empty()).unwrap();
    let call = tokio::spawn(edge.proxy.clone().call(request));
    tokio::task::yield_now().await;
    assert_eq!(stats(&edge).in_flight, 1);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(stats(&edge).abandoned, 1);
    // The sender of the route itself is left.
    drop(edge);
    assert_eq!(dropped.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_router_of_axum_is_a_route() {
    use axum::extract::Path;
    use axum::routing::get as on_get;

    let router = axum::Router::new()
        .route("/orders/{id}", on_get(async |Path(id): Path<u32>| format!("order {id}")))
        .route("/head", on_get(async || (HeaderMap::new(), "a body")));
    let route = Route::new("orders").prefix("/api").strip("/api").to_service(router).public();
    let edge = edge(route);
    assert_eq!(ask(&edge, &get("/api/orders/7")).await, (200, "order 7".into()));
    assert_eq!(ask(&edge, &get("/api/other")).await.0, 404);
    let post = "POST /api/head HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(&edge, post).await.0, 405);
    let mut client = edge.open();
    client.write("HEAD /api/head HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let whole = client.read_to_end().await;
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\n"), "{whole}");
    assert_eq!(field(&whole, "content-length"), Some("6"));
    assert_eq!(stats(&edge).answered, 4);
}

#[tokio::test(start_paused = true)]
async fn edge_7_10_a_route_to_a_service_is_ready_if_the_service_is() {
    let works = edge(local(async |_| text("")).public());
    assert_eq!(works.proxy.ready("all").look().await.status(), Status::Up);
    assert_eq!(stats(&works).begun, 0);

    #[derive(Clone)]
    struct Broken;
    impl Service<Request<Body>> for Broken {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("no disk".into()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let edge = edge(Route::new("all").to_service(Broken).public());
    let finding = edge.proxy.ready("all").look().await;
    let expected = (Status::Down, Some("the service is not ready: no disk"));
    assert_eq!((finding.status(), finding.text()), expected);
    assert_eq!(ask(&edge, &get("/")).await.0, StatusCode::BAD_GATEWAY);
}

#[test]
fn edge_4_6_what_only_backends_have_is_refused_on_a_route_to_a_service() {
    let route = || local(async |_| text("")).public();
    let new = || Upstream::fixed(["http://b"]).unwrap();
    let share = split::Handle::new(&split::Config::new()).unwrap();
    let mirror = RouteShadow::new(new(), shadow::Config::new()).unwrap();
    for (route, field) in [
        (route().to(new()), "routes.all.to"),
        (Route::new("all").public(), "routes.all.to"),
        (route().retry(retry::Config::new().attempts(2)), "routes.all.retry"),
        (route().split(RouteSplit::new(new(), &share)), "routes.all.split"),
        (route().shadow(mirror), "routes.all.shadow"),
    ] {
        assert_eq!(Proxy::new(Config::new(), [route]).unwrap_err().field(), field);
    }
}
