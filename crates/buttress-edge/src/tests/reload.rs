//! Routes that change while the proxy runs.

use std::time::Duration;

use buttress::CircuitState;
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, Backoff};

use super::support::{Backend, Edge, get, route, status};
use crate::{Config, Route, RouteStats, Upstream};

async fn ask(edge: &Edge, target: &str) -> u16 {
    status(&edge.open().exchange(get(target)).await.0)
}

/// Sends a request that the backend answers with 200.
async fn pass(edge: &Edge, backend: &mut Backend, target: &str) {
    let mut client = edge.open();
    client.write(get(target)).await;
    let (_connection, _) = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200, "{target}");
}

fn stats(edge: &Edge, name: &str) -> Option<RouteStats> {
    edge.proxy.stats().into_iter().find(|(given, _)| given == name).map(|(_, stats)| stats)
}

#[tokio::test(start_paused = true)]
async fn edge_2_44_routes_come_change_and_go_and_untouched_ones_keep_their_state() {
    let tokens = rate_limit::Config::new().max_tokens(2).refill(1, Duration::from_secs(60));
    let limiter = RateLimitLayer::new(tokens).unwrap().handle();
    let circuit = CircuitBreakerLayer::default().handle();
    let upstream = Upstream::fixed(["http://b"]).unwrap();
    let kept = Route::new("kept").prefix("/kept").to(upstream.clone()).public();
    let kept = kept.rate_limit(limiter.clone()).circuit_breaker(circuit.clone());
    let routes = [kept.clone(), route("changed", &["b"]).prefix("/old"), route("gone", &["b"])];
    let edge = Edge::new(Config::new(), routes);
    let mut backend = edge.network.listen("b");
    for target in ["/kept", "/old", "/"] {
        pass(&edge, &mut backend, target).await;
    }
    circuit.force_open();

    let changed = route("changed", &["b"]).prefix("/new");
    let handle = edge.proxy.handle();
    let replaced = handle.replace([changed, kept, route("new", &["b"]).prefix("/x")]).unwrap();
    assert_eq!(replaced.added, ["new"]);
    assert_eq!(replaced.continued, ["changed", "kept"]);
    assert_eq!(replaced.removed, ["gone"]);
    assert_eq!((ask(&edge, "/old").await, ask(&edge, "/").await), (404, 404));
    pass(&edge, &mut backend, "/new").await;
    pass(&edge, &mut backend, "/x").await;
    // One token was spent before the change, and one is spent by the request that the circuit refuses.
    assert_eq!((circuit.state(), limiter.available()), (CircuitState::ForcedOpen, 1));
    assert_eq!((ask(&edge, "/kept").await, ask(&edge, "/kept").await), (503, 429));
    let kept = stats(&edge, "kept").unwrap();
    assert_eq!((kept.begun, kept.answered, kept.refused.total()), (3, 1, 2));
    assert_eq!(stats(&edge, "changed").unwrap().answered, 2);
    assert_eq!(stats(&edge, "gone"), None);
    assert_eq!(upstream.stats()[0].1.answered, 1);
}

#[tokio::test(start_paused = true)]
async fn edge_2_44_a_wrong_route_changes_nothing() {
    let edge = Edge::new(Config::new(), [route("all", &["b"])]);
    let mut backend = edge.network.listen("b");
    let handle = edge.proxy.handle();
    let wrong: [Vec<Route>; 3] = [
        vec![route("all", &["c"]), Route::new("half")],
        vec![route("all", &["c"]), route("same", &["c"])],
        vec![route("all", &["c"]), route("all", &["c"]).prefix("/x")],
    ];
    for routes in wrong {
        assert!(handle.replace(routes).is_err());
        pass(&edge, &mut backend, "/").await;
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_44_a_request_in_flight_ends_by_the_rules_it_began_with() {
    let edge = Edge::new(Config::new(), [route("all", &["b"])]);
    let mut backend = edge.network.listen("b");
    let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
    let limited = route("all", &["c"]).time_limit(Duration::from_millis(1));
    edge.proxy.handle().replace([limited]).unwrap();
    buttress::Clock::default().sleep(Duration::from_secs(5)).await;
    assert_eq!(stats(&edge, "all").unwrap().in_flight, 1);
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(status(&client.answer().await.0), 200);
    let expected = RouteStats { begun: 1, answered: 1, ..RouteStats::default() };
    assert_eq!(stats(&edge, "all"), Some(expected));
    assert_eq!(ask(&edge, "/").await, 502);
}

#[tokio::test(start_paused = true)]
async fn edge_2_44_a_clone_of_a_route_keeps_the_budget_of_its_retry() {
    let soon = retry::Config::new().attempts(2).backoff(Backoff::fixed(Duration::ZERO));
    let kept = route("all", &["off"]).retry(soon);
    let edge = Edge::new(Config::new(), [kept.clone()]);
    // A fifth of the requests, and 3 per second of the window of 10 seconds.
    for (requests, connections) in [(40, 40 + 38), (10, 50 + 40)] {
        for _ in 0..requests {
            assert_eq!(ask(&edge, "/").await, 502);
        }
        assert_eq!(edge.network.dialled().len(), connections);
        edge.proxy.handle().replace([kept.clone()]).unwrap();
    }
}
