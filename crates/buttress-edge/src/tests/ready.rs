//! The health of a gateway, by the readiness of its routes.

use std::time::Duration;

use buttress::balance::{self, Policy};
use buttress::discover::Instance;
use buttress::health::{Finding, Health, Importance, Status, Watch};

use buttress::Clock;
use buttress::split::{self, Handle};

use super::resources::SECOND;
use super::support::{Backend, Edge, route};
use crate::{BackendStats, Config, Route, RouteSplit, Upstream};

/// Answers every request with a status.
fn always(backend: Backend, status: &str) {
    after(Duration::ZERO, backend, status);
}

/// Answers every request with a status after `wait`.
fn after(wait: Duration, backend: Backend, status: &str) {
    backend.answer_all(wait, format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn edge_7_10_the_health_of_a_gateway_asks_each_route_for_ready() {
    for (orders, prices, expected) in [
        ("200 OK", "204 No Content", Status::Up),
        ("200 OK", "503 Service Unavailable", Status::Degraded),
        ("503 Service Unavailable", "200 OK", Status::Down),
        ("404 Not Found", "200 OK", Status::Down),
    ] {
        let routes = [route("orders", &["o"]).prefix("/orders"), route("prices", &["p"])];
        let edge = Edge::new(Config::new(), routes);
        always(edge.network.listen("o"), orders);
        always(edge.network.listen("p"), prices);
        let ready = |name: &str| edge.proxy.ready(name);
        let health = Health::new("gateway", "1")
            .watch("orders", Importance::Critical, ready("orders"))
            .and_then(|health| health.watch("prices", Importance::High, ready("prices")))
            .unwrap();
        let _running = health.spawn();
        // The clock is paused: it moves once both checks have ended.
        buttress::Clock::default().sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(health.status(), expected, "{orders} {prices}");
        // The requests of a check are none of the route.
        assert_eq!(edge.proxy.stats()[0].1.begun, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_7_10_a_route_is_ready_if_one_of_its_backends_is() {
    let urls = ["http://down/v1", "http://busy", "http://works"];
    let upstream = Upstream::fixed(urls).unwrap();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream.clone()).public()]);
    always(edge.network.listen("busy"), "503 Service Unavailable");
    let ready = edge.proxy.ready("all").path("/healthz").unwrap();
    let text = |finding: &Finding| finding.text().map(str::to_owned);
    let finding = ready.look().await;
    assert_eq!(finding.status(), Status::Down);
    assert!(text(&finding).is_some(), "{finding:?}");

    let mut works = edge.network.listen("works");
    let (finding, head) = tokio::join!(ready.look(), async { works.serve_one().await.1 });
    assert_eq!(finding.status(), Status::Up);
    assert!(head.starts_with("GET /healthz HTTP/1.1\r\nhost: works\r\n"), "{head}");
    let sum = |read: fn(&BackendStats) -> u64| -> u64 {
        upstream.stats().iter().map(|(_, stats)| read(stats)).sum()
    };
    assert_eq!(sum(|stats| stats.abandoned + stats.in_flight + stats.refused), 0);

    assert_eq!(edge.proxy.ready("other").look().await.status(), Status::Unknown);
    for path in ["", "ready", "/a/../b", "//a"] {
        assert_eq!(edge.proxy.ready("all").path(path).unwrap_err().field(), "path", "{path}");
    }
}

/// A route from `old` to `new` with this share.
fn shifted(share: f64, falls_back: bool) -> Edge {
    let handle = Handle::new(&split::Config::new().share(share)).unwrap();
    let split = RouteSplit::new(Upstream::fixed(["http://new"]).unwrap(), &handle);
    let split = if falls_back { split.fall_back() } else { split };
    Edge::new(Config::new(), [route("orders", &["old"]).split(split)])
}

/// Regression: only the old side was asked.
#[tokio::test(start_paused = true)]
async fn edge_7_10_a_route_with_two_sides_needs_the_sides_that_get_requests() {
    for (share, falls_back, old, new, expected) in [
        (0.0, false, true, false, Status::Up),
        (0.0, false, false, true, Status::Down),
        (0.0, true, true, false, Status::Up),
        (0.05, false, true, true, Status::Up),
        (0.05, false, true, false, Status::Degraded),
        (0.05, true, false, true, Status::Degraded),
        (0.05, false, false, false, Status::Down),
        (1.0, false, false, true, Status::Up),
        (1.0, false, true, false, Status::Down),
        (1.0, true, true, false, Status::Degraded),
        (1.0, true, false, true, Status::Up),
        (1.0, true, false, false, Status::Down),
    ] {
        let edge = shifted(share, falls_back);
        let answer = |ready| if ready { "200 OK" } else { "503 Service Unavailable" };
        always(edge.network.listen("old"), answer(old));
        always(edge.network.listen("new"), answer(new));
        let finding = edge.proxy.ready("orders").look().await;
        let case = format!("{share} {falls_back} {old} {new}: {finding:?}");
        assert_eq!(finding.status(), expected, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_7_10_a_side_that_hangs_does_not_hide_the_answer_of_the_other() {
    let edge = shifted(0.5, false);
    always(edge.network.listen("old"), "200 OK");
    let _new = edge.network.listen("new");
    let (ready, start) = (edge.proxy.ready("orders"), Clock::default().now());
    let finding = ready.look().await;
    // A check has 5 seconds.
    assert_eq!((Clock::default().now() - start).as_secs(), 4);
    let text = "the new side: no backend answered: timed-out";
    assert_eq!((finding.status(), finding.text()), (Status::Degraded, Some(text)));
}

/// Regression: the backends were asked one after the other, each for as long as the whole check may take.
#[tokio::test(start_paused = true)]
async fn edge_7_10_a_backend_that_hangs_does_not_hide_those_that_are_ready() {
    let backends = ["hangs", "works"].map(Instance::at);
    let config = balance::Config::new().policy(Policy::RoundRobin);
    let upstream = Upstream::balanced(backends, config).unwrap();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream.clone()).public()]);
    let _hangs = edge.network.listen("hangs");
    always(edge.network.listen("works"), "200 OK");
    let ready = edge.proxy.ready("all");
    for _ in 0..2 {
        let start = Clock::default().now();
        assert_eq!(ready.look().await.status(), Status::Up);
        assert!((Clock::default().now() - start).as_secs() <= 2);
    }
    // Both are slow: the first one answers after its share of the time.
    for (wait, status, seconds) in [(3, Status::Up, 3), (5, Status::Down, 4)] {
        // Longer than connections are kept.
        Clock::default().sleep(20 * SECOND).await;
        after(wait * SECOND, edge.network.listen("hangs"), "200 OK");
        after(wait * SECOND, edge.network.listen("works"), "200 OK");
        let start = Clock::default().now();
        assert_eq!(ready.look().await.status(), status);
        assert_eq!((Clock::default().now() - start).as_secs(), seconds, "{wait}");
    }
}
