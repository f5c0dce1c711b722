//! The context of a request, and what a backend gets of it.

use std::time::Duration;

use buttress::Clock;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::retry::{Backoff, Config as Retry};
use buttress_http::client_key::PeerAddr;
use buttress_http::context::{ContextLayer, Trust};
use http::{Request, Response};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::{BoxError, Layer, Service, service_fn};

use super::support::{Backend, Edge, field, route, status};
use crate::{Body, Config, Proxy, Route};

const SENT: [(&str, &str); 7] = [
    ("x-correlation-id", "order-7"),
    ("x-request-id", "other"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "a=b"),
    ("x-request-timeout-ms", "1000"),
    ("x-request-priority", "0"),
    ("x_request_priority", "1"),
];

fn edge(config: Config, route: Route) -> (Edge, Backend) {
    let edge = Edge::new(config, [route]);
    let backend = edge.network.listen("b");
    (edge, backend)
}

/// Sends a request with the fields of a context through a layer of a server, if there is one.
fn send(proxy: &Proxy, server: Option<Trust>) -> JoinHandle<Response<Body>> {
    let mut proxy = proxy.clone();
    let mut request = Request::get("/").header("host", "a");
    for (name, value) in SENT {
        request = request.header(name, value);
    }
    let request = request.extension(PeerAddr([192, 0, 2, 7].into())).body(Body::empty()).unwrap();
    tokio::spawn(async move {
        let result = match server {
            None => proxy.call(request).await,
            Some(trust) => ContextLayer::server(trust).layer(proxy).call(request).await,
        };
        result.unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn edge_1_7_a_backend_is_told_what_remains_and_each_attempt_is_its_own_parent() {
    let retry = Retry::new().attempts(2).backoff(Backoff::fixed(Duration::ZERO));
    let (edge, mut backend) = edge(Config::new(), route("all", &["b"]).retry(retry));
    let call = send(&edge.proxy, Some(Trust::All));
    let mut parents = Vec::new();
    for (left, answer) in [("1000", "503 Busy"), ("700", "200 OK")] {
        let (mut connection, head) = backend.accept_request().await;
        assert_eq!(field(&head, "x-request-timeout-ms"), Some(left));
        assert_eq!(field(&head, "x-correlation-id"), Some("order-7"));
        assert_eq!(field(&head, "x-request-priority"), Some("0"));
        for gone in ["x-request-id", "x_request_priority"] {
            assert_eq!(field(&head, gone), None, "{head}");
        }
        assert_eq!(field(&head, "tracestate"), Some("a=b"));
        let parent = field(&head, "traceparent").unwrap().to_owned();
        assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{parent}");
        parents.push(parent);
        Clock::default().sleep(Duration::from_millis(300)).await;
        connection.write(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")).await;
    }
    let given = String::from(SENT[2].1);
    assert!(parents[0] != parents[1] && !parents.contains(&given), "{parents:?}");
    let response = call.await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["x-correlation-id"], "order-7");
}

/// Regression: a service of the process got a request without the fields, so a layer in it began another trace, with
/// another id and without a deadline.
#[tokio::test(start_paused = true)]
async fn edge_1_7_a_service_of_a_route_gets_the_fields_that_a_backend_gets() {
    let waited = Duration::from_millis(300);
    let (given, mut taken) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Body>| {
        let given = given.clone();
        async move {
            given.send(request.headers().clone()).unwrap();
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    // The request waits for its permit, so less time is left for the service.
    let permits = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1).queue(1)).unwrap();
    let permits = permits.handle();
    let local = Route::new("all").to_service(service).public().max_concurrent(permits.clone());
    let proxy = Proxy::new(Config::new(), [local]).unwrap();
    for (server, expected) in [(Some(Trust::All), Some("700")), (Some(Trust::None), None)] {
        let permit = permits.acquire().await.unwrap();
        let call = send(&proxy, server);
        Clock::default().sleep(waited).await;
        drop(permit);
        let fields = taken.recv().await.unwrap();
        let field = |name: &str| fields.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(field("x-request-timeout-ms"), expected);
        for (name, sent) in SENT {
            let is_kept = expected.is_some()
                && matches!(name, "x-correlation-id" | "tracestate" | "x-request-priority");
            assert_eq!(field(name) == Some(sent), is_kept, "{name}: {fields:?}");
        }
        let parent = field("traceparent").unwrap();
        let trace = "00-0af7651916cd43dd8448eb211c80319c-";
        assert_eq!(parent.starts_with(trace), expected.is_some(), "{parent}");
        assert_eq!(call.await.unwrap().status().as_u16(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_1_7_the_deadline_of_the_caller_bounds_all_attempts() {
    let (edge, mut backend) = edge(Config::new(), route("all", &["b"]));
    let clock = Clock::default();
    let start = clock.now();
    let call = send(&edge.proxy, Some(Trust::All));
    let (mut connection, _) = backend.accept_request().await;
    let response = call.await.unwrap();
    assert_eq!((response.status().as_u16(), clock.now() - start), (504, Duration::from_secs(1)));
    connection.read_to_end().await;
}

#[tokio::test(start_paused = true)]
async fn edge_1_3_a_backend_gets_no_context_of_a_peer_that_is_not_trusted() {
    // With a layer of a server, the backend gets the context that the layer has begun.
    for server in [None, Some(Trust::None)] {
        let (edge, mut backend) = edge(Config::new(), route("all", &["b"]));
        let has_layer = server.is_some();
        let call = send(&edge.proxy, server);
        let (_connection, head) = backend.serve_one().await;
        for (name, sent) in SENT {
            let is_begun = has_layer && matches!(name, "x-correlation-id" | "traceparent");
            assert_eq!(field(&head, name).is_some(), is_begun, "{name}: {head}");
            assert_ne!(field(&head, name), Some(sent));
        }
        assert_eq!(call.await.unwrap().status().as_u16(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_1_6_without_a_layer_the_context_of_a_trusted_peer_passes_unchanged() {
    let config = Config::new().trust(Trust::gateways(["192.0.2.0/24"]).unwrap());
    // The limit of the route is not a field: nothing else of the context is carried either.
    let limited = route("all", &["b"]).time_limit(Duration::from_secs(5));
    let (edge, mut backend) = edge(config, limited);
    let call = send(&edge.proxy, None);
    let (connection, head) = backend.serve_one().await;
    for (name, sent) in SENT {
        assert_eq!(field(&head, name), Some(sent), "{head}");
    }
    assert_eq!(call.await.unwrap().status().as_u16(), 200);
    drop(connection);
    // A peer outside of the network is a client of the public.
    let mut edge = edge;
    edge.peer = Some([203, 0, 113, 9].into());
    let mut client = edge.open();
    client.write("GET / HTTP/1.1\r\nHost: a\r\nGrpc-Timeout: 1S\r\nX-Request-Id: 7\r\n\r\n").await;
    let (_connection, head) = backend.serve_one().await;
    assert_eq!((field(&head, "grpc-timeout"), field(&head, "x-request-id")), (None, None));
    assert_eq!(status(&client.answer().await.0), 200);
}
