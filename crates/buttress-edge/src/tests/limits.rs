//! The limits of a route: tokens, permits, the circuit and the time.

use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, KeyedRateLimitLayer, RateLimitLayer};
use buttress::{CircuitState, Clock};
use buttress_http::client_key::AddressKeys;

use super::support::{Backend, Edge, field, get, route, status};
use crate::{ClientKey, Config, RefusedStats, Route, RouteStats, Upstream};

const MINUTE: Duration = Duration::from_secs(60);

fn edge(route: Route) -> (Edge, Backend) {
    let edge = Edge::new(Config::new(), [route]);
    let backend = edge.network.listen("b");
    (edge, backend)
}

fn tokens(count: u32) -> rate_limit::Config {
    rate_limit::Config::new().max_tokens(count).refill(1, MINUTE)
}

/// Sends a request that the backend answers with 200.
async fn pass(edge: &Edge, backend: &mut Backend, request: &str) {
    let mut client = edge.open();
    client.write(request).await;
    let _connection = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200, "{request}");
}

async fn refused(edge: &Edge, request: &str) -> (u16, String) {
    let (head, _) = edge.open().exchange(request).await;
    (status(&head), field(&head, "retry-after").unwrap_or_default().to_owned())
}

#[tokio::test(start_paused = true)]
async fn edge_2_39_a_refused_request_spends_no_token_and_a_limited_one_takes_no_turn() {
    let limiter = RateLimitLayer::new(tokens(1)).unwrap().handle();
    let upstream = Upstream::fixed(["http://b"]).unwrap();
    let route = Route::new("all").to(upstream.clone()).public().max_request_body(3);
    let (edge, mut backend) = edge(route.rate_limit(limiter.clone()));
    for request in [
        get("/a//b"),
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n".into(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {}\r\n\r\n", ["1.1 buttress"; 5].join(", ")),
    ] {
        edge.open().exchange(request).await;
        assert_eq!(limiter.available(), 1);
    }
    pass(&edge, &mut backend, &get("/")).await;

    let (head, body) = edge.open().exchange(get("/")).await;
    assert_eq!((status(&head), field(&head, "retry-after")), (429, Some("60")));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=http_request_denied"));
    assert_eq!(field(&head, "content-type"), Some("application/problem+json"));
    assert!(body.contains(r#""kind":"rate-limited""#), "{body}");
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let (head, _) = edge.open().exchange(request).await;
    assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some("8")));

    assert_eq!(upstream.stats()[0].1.begun, 1);
    let refused =
        RefusedStats { bad_request: 1, looped: 1, rate_limited: 2, ..RefusedStats::default() };
    let expected = RouteStats { begun: 5, answered: 1, refused, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);
}

/// A route with one token for each client, and the tokens of all.
fn per_client(max_keys: usize) -> (Route, rate_limit::Handle) {
    let keys = AddressKeys::new().trust_networks(["10.0.0.0/8"]).unwrap();
    let per_client = KeyedRateLimitLayer::new(tokens(1), max_keys, ClientKey::clone).unwrap();
    let all = RateLimitLayer::new(tokens(100)).unwrap().handle();
    let route = route("all", &["b"]).per_client(per_client.handle(), keys);
    (route.rate_limit(all.clone()), all)
}

#[tokio::test(start_paused = true)]
async fn edge_2_40_each_client_has_its_tokens_and_one_over_its_limit_takes_none_of_the_route() {
    let (route, all) = per_client(100);
    let (mut edge, mut backend) = edge(route);
    for peer in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
        edge.peer = Some(peer.parse().unwrap());
        pass(&edge, &mut backend, &get("/")).await;
        for _ in 0..3 {
            assert_eq!(refused(&edge, &get("/")).await, (429, "60".into()));
        }
    }
    assert_eq!(all.available(), 96);
    // The first 64 bits of IPv6 are the client.
    edge.peer = Some("2001:db8::ffff:2".parse().unwrap());
    assert_eq!(refused(&edge, &get("/")).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn edge_2_40_a_full_map_of_clients_refuses_new_ones() {
    let (mut edge, mut backend) = edge(per_client(1).0);
    pass(&edge, &mut backend, &get("/")).await;
    edge.peer = Some([192, 0, 2, 99].into());
    assert_eq!(refused(&edge, &get("/")).await, (503, "1".into()));
}

#[tokio::test(start_paused = true)]
async fn edge_2_41_the_address_is_the_first_from_the_right_that_is_not_trusted() {
    let (mut edge, mut backend) = edge(per_client(100).0);
    let from = |forwarded: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n")
    };
    edge.peer = Some([10, 0, 0, 1].into());
    pass(&edge, &mut backend, &from("203.0.113.7")).await;
    // What the client itself wrote stands to the left and changes nothing.
    for forwarded in ["198.51.100.1, 203.0.113.7", "garbage, 203.0.113.7, 10.0.0.9"] {
        assert_eq!(refused(&edge, &from(forwarded)).await.0, 429, "{forwarded}");
    }
    pass(&edge, &mut backend, &from("203.0.113.7, garbage")).await;
    assert_eq!(refused(&edge, &from("203.0.113.8, garbage")).await.0, 429);
    // A peer that is not trusted is the client.
    edge.peer = Some([192, 0, 2, 7].into());
    pass(&edge, &mut backend, &from("203.0.113.9")).await;
    assert_eq!(refused(&edge, &from("203.0.113.10")).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn edge_2_42_requests_without_an_address_share_one_bucket() {
    let (mut edge, mut backend) = edge(per_client(100).0);
    edge.peer = None;
    pass(&edge, &mut backend, &get("/")).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    assert_eq!(refused(&edge, request).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_permit_is_held_until_the_body_ends_or_the_client_leaves() {
    let bulkhead = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap().handle();
    let (edge, mut backend) = edge(route("all", &["b"]).max_concurrent(bulkhead.clone()));
    for leaves in [false, true] {
        let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
        client.read_until("\r\n\r\no").await;

        let (head, body) = edge.open().exchange(get("/")).await;
        assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")));
        assert_eq!(field(&head, "proxy-status"), Some("buttress; error=connection_limit_reached"));
        assert!(body.contains(r#""kind":"bulkhead-full""#), "{body}");

        if leaves {
            drop(client);
            connection.read_to_end().await;
        } else {
            connection.write("k").await;
            assert_eq!(client.read_bytes(1).await, "k");
            drop(connection);
        }
        assert_eq!(bulkhead.stats().active, 0);
    }
    pass(&edge, &mut backend, &get("/")).await;
    assert_eq!(bulkhead.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_the_circuit_opens_for_failures_of_backends_only() {
    let config = circuit_breaker::Config::new().consecutive_failures(2);
    let circuit = CircuitBreakerLayer::new(config).unwrap().handle();
    let (edge, mut backend) = edge(route("all", &["b"]).circuit_breaker(circuit.clone()));
    let failing = async |backend: &mut Backend, answer: &str| {
        let (mut client, mut connection) = edge.send(get("/"), backend).await;
        connection.write(answer).await;
        drop(connection);
        status(&client.answer().await.0)
    };
    let broken = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(failing(&mut backend, broken).await, 500);
    // A client that leaves, and one that does not send its body, neither fail nor succeed.
    for request in [get("/"), "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi".into()] {
        let (client, mut connection) = edge.send(request, &mut backend).await;
        drop(client);
        connection.read_to_end().await;
    }
    let (mut client, connection) =
        edge.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi", &mut backend).await;
    assert_eq!(status(&client.answer().await.0), 408);
    drop(connection);
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(circuit.stats().failures, 1);

    // A backend that closes without an answer.
    assert_eq!(failing(&mut backend, "").await, 502);
    assert_eq!(circuit.state(), CircuitState::Open);
    let dialled = edge.network.dialled().len();
    let (head, body) = edge.open().exchange(get("/")).await;
    assert_eq!(status(&head), 503);
    assert!(field(&head, "retry-after").unwrap().parse::<u64>().unwrap() > 1, "{head}");
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=destination_unavailable"));
    assert!(body.contains(r#""kind":"circuit-open""#), "{body}");
    assert_eq!(edge.network.dialled().len(), dialled);

    circuit.reset();
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    for answer in [broken, missing, broken, missing] {
        failing(&mut backend, answer).await;
    }
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_of_a_route_covers_all_attempts() {
    // Neither accepts. Two attempts would take 4 seconds.
    let route = route("all", &["never", "never/v2"]).time_limit(Duration::from_secs(3));
    let edge = Edge::new(Config::new(), [route]);
    let clock = Clock::default();
    let start = clock.now();
    assert_eq!(status(&edge.open().exchange(get("/")).await.0), 504);
    assert_eq!(clock.now() - start, Duration::from_secs(3));
    assert_eq!(edge.network.dialled().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_of_a_route_is_504_for_a_slow_backend_and_408_for_a_slow_client() {
    let circuit = CircuitBreakerLayer::default().handle();
    let route = route("all", &["b"]).circuit_breaker(circuit.clone());
    let (edge, mut backend) = edge(route.time_limit(Duration::from_secs(3)));
    let clock = Clock::default();
    let sent = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let slow = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhi";
    for (request, expected, failures) in [(sent, 504, 1), (slow, 408, 1)] {
        let start = clock.now();
        let mut client = edge.open();
        client.write(request).await;
        let mut connection = backend.accept().await;
        connection.read_until("hi").await;
        let (head, _) = client.answer().await;
        assert_eq!((status(&head), clock.now() - start), (expected, Duration::from_secs(3)));
        assert_eq!(circuit.stats().failures, failures);
        // The request is over for the backend too.
        connection.read_to_end().await;
    }
    let zero = super::support::route("zero", &["b"]).time_limit(Duration::ZERO);
    let error = crate::Proxy::new(Config::new(), [zero]).unwrap_err();
    assert_eq!(error.field(), "routes.zero.time-limit");
}
