//! Routes with two sides, and routes with a mirror.

mod compare;
mod mirror;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::discover::{Instance, Resolve};
use buttress::split::{self, Handle};
use buttress::{CircuitState, Clock, StoreError, balance, retry, shadow};
use http::Request;

use super::support::{Edge, Network, get, route, status};
use crate::{
    Admission, Admit, Body, Config, Proxy, Route, RouteShadow, RouteSplit, Subject, Upstream,
};

/// The heads of the requests that a backend has got.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn last(&self) -> String {
        self.0.lock().unwrap().last().unwrap().to_ascii_lowercase()
    }
}

/// Answers every request at `authority` with this status, and with the authority as the body.
fn backend(network: &Network, authority: &'static str, status: u16) -> Seen {
    let (mut backend, seen) = (network.listen(authority), Seen::default());
    let log = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut connection, log) = (backend.accept().await, log.clone());
            tokio::spawn(async move {
                loop {
                    let head = connection.read_head().await;
                    let length =
                        head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    connection.read_bytes(length.map_or(0, |length| length.parse().unwrap())).await;
                    log.0.lock().unwrap().push(head);
                    let length = authority.len();
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{authority}"
                    );
                    connection.write(answer).await;
                }
            });
        }
    });
    seen
}

fn upstream(authority: &str) -> Upstream {
    Upstream::fixed([format!("http://{authority}")]).unwrap()
}

/// A route from `old` to `new`, and the handle of its share.
fn shifted(set: impl Fn(RouteSplit) -> RouteSplit, share: f64) -> (Route, Handle) {
    let config = split::Config::new().name("orders").share(share).count_calls(true);
    let handle = Handle::new(&config).unwrap();
    let split = set(RouteSplit::new(upstream("new"), &handle));
    (route("orders", &["old"]).split(split), handle)
}

async fn ask(edge: &Edge, request: &str) -> (u16, String) {
    let (head, body) = edge.open().exchange(request).await;
    (status(&head), body)
}

fn with(field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop.example\r\n{field}\r\n\r\n")
}

const POST: &str = "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\n\r\nabc";

#[tokio::test(start_paused = true)]
async fn edge_3_3_a_share_of_0_and_1_is_exact_and_the_handle_changes_it_live() {
    let (route, handle) = shifted(|split| split, 0.0);
    let edge = Edge::new(Config::new(), [route]);
    let (old, new) = (backend(&edge.network, "old", 200), backend(&edge.network, "new", 200));
    for _ in 0..50 {
        assert_eq!(ask(&edge, &get("/")).await, (200, "old".into()));
    }
    handle.share(1.0).unwrap();
    for _ in 0..50 {
        assert_eq!(ask(&edge, POST).await, (200, "new".into()));
    }
    assert_eq!((old.count(), new.count()), (50, 50));
    let stats = handle.stats();
    assert_eq!((stats.old, stats.new, stats.fell_back), (Some(50), Some(50), 0));
    let stats = edge.proxy.stats()[0].1;
    assert_eq!((stats.begun, stats.answered), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn edge_3_1_requests_with_one_value_of_a_field_go_to_one_side() {
    let (route, handle) = shifted(|split| split.stick_by_header("x-customer"), 0.5);
    let edge = Edge::new(Config::new(), [route]);
    let (_old, _new) = (backend(&edge.network, "old", 200), backend(&edge.network, "new", 200));
    let mut sides = Vec::new();
    for customer in 0..100 {
        let request = with(&format!("X-Customer: {customer}"));
        let (_, side) = ask(&edge, &request).await;
        assert_eq!(ask(&edge, &request).await.1, side, "{customer}");
        sides.push(side);
    }
    let new = sides.iter().filter(|side| *side == "new").count();
    // Three sigma of 100 draws.
    assert!((35..=65).contains(&new), "{new} of 100");
    // Edge 3.2: a larger share moves no user back.
    handle.share(0.8).unwrap();
    for (customer, before) in sides.iter().enumerate() {
        let (_, side) = ask(&edge, &with(&format!("X-Customer: {customer}"))).await;
        assert!(side == "new" || before == "old", "{customer}");
    }
}

/// Admits everyone, under the name in a field.
#[derive(Debug)]
struct ByName;

impl Admit for ByName {
    fn admit(&self, mut request: Request<Body>) -> Admission {
        let name = request.headers()["x-name"].to_str().unwrap().to_owned();
        request.extensions_mut().insert(Subject::new(&name).unwrap());
        Admission::Now(Ok(request))
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_1_requests_of_one_subject_go_to_one_side() {
    let handle = Handle::new(&split::Config::new().name("orders").share(0.5)).unwrap();
    let split = RouteSplit::new(upstream("new"), &handle).stick_by_subject();
    let route = Route::new("orders").to(upstream("old")).split(split).admit(ByName);
    let edge = Edge::new(Config::new(), [route]);
    let (_old, _new) = (backend(&edge.network, "old", 200), backend(&edge.network, "new", 200));
    let mut sides = std::collections::BTreeSet::new();
    for name in 0..20 {
        let request = with(&format!("X-Name: {name}"));
        let (_, side) = ask(&edge, &request).await;
        for _ in 0..5 {
            assert_eq!(ask(&edge, &request).await.1, side, "{name}");
        }
        sides.insert(side);
    }
    assert_eq!(sides.len(), 2, "both sides have subjects");
}

#[tokio::test(start_paused = true)]
async fn edge_3_5_a_field_chooses_the_side_only_if_the_route_says_so() {
    for (is_enabled, field, expected) in [
        (true, "X-Backend: new", "new"),
        (true, "X-Backend: NEW", "new"),
        (true, "X-Backend: old", "old"),
        (true, "X-Backend: canary", "old"),
        (true, "X-Backend: new\r\nX-Backend: new", "old"),
        (false, "X-Backend: new", "old"),
    ] {
        let force = |split: RouteSplit| {
            if is_enabled { split.force_by_header("x-backend") } else { split }
        };
        let edge = Edge::new(Config::new(), [shifted(force, 0.0).0]);
        let (_old, _new) = (backend(&edge.network, "old", 200), backend(&edge.network, "new", 200));
        assert_eq!(ask(&edge, &with(field)).await.1, expected, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_the_old_side_answers_while_the_circuit_of_the_new_side_is_open() {
    for falls_back in [true, false] {
        let circuit = CircuitBreakerLayer::default().handle();
        let set = |split: RouteSplit| {
            let split = split.circuit_breaker(circuit.clone());
            if falls_back { split.fall_back() } else { split }
        };
        let (route, handle) = shifted(set, 1.0);
        let edge = Edge::new(Config::new(), [route]);
        let (old, new) = (backend(&edge.network, "old", 200), backend(&edge.network, "new", 500));
        for _ in 0..5 {
            assert_eq!(ask(&edge, POST).await.0, 500, "the answer of a POST stands");
        }
        let expected = if falls_back { 200 } else { 503 };
        for request in [POST.to_owned(), get("/")] {
            assert_eq!(ask(&edge, &request).await.0, expected);
        }
        let fell_back = if falls_back { 2 } else { 0 };
        assert_eq!((new.count(), old.count()), (5, fell_back));
        assert_eq!(handle.stats().fell_back, fell_back as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_new_side_has_not_seen_falls_back_and_a_failed_one_if_it_is_idempotent()
{
    // The status of the new side, whose connections fail without one.
    for (new, request, expected) in [
        (None, POST.to_owned(), "old"),
        (None, get("/"), "old"),
        (Some(500), get("/"), "old"),
        (Some(500), POST.to_owned(), "new"),
        (Some(404), get("/"), "new"),
    ] {
        let (route, _) = shifted(RouteSplit::fall_back, 1.0);
        let edge = Edge::new(Config::new(), [route]);
        let _old = backend(&edge.network, "old", 200);
        let _new = new.map(|status| backend(&edge.network, "new", status));
        assert_eq!(ask(&edge, &request).await.1, expected, "{new:?} {request}");
    }
    let (route, _) = shifted(|split| split, 1.0);
    let edge = Edge::new(Config::new(), [route]);
    let old = backend(&edge.network, "old", 200);
    assert_eq!((ask(&edge, POST).await.0, old.count()), (502, 0), "without a fallback");
}

#[tokio::test(start_paused = true)]
async fn a_new_side_that_may_have_seen_a_post_keeps_it() {
    let (route, _) = shifted(RouteSplit::fall_back, 1.0);
    let edge = Edge::new(Config::new(), [route]);
    let old = backend(&edge.network, "old", 200);
    let mut new = edge.network.listen("new");
    let (mut client, connection) = edge.send(POST, &mut new).await;
    // The connection breaks before the answer.
    drop(connection);
    assert_eq!(status(&client.answer().await.0), 502);
    assert_eq!(old.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_one_backend_of_the_new_side_has_seen_is_not_repeated_and_does_not_fall_back() {
    let new = Upstream::fixed(["http://new", "http://down"]).unwrap();
    let handle = Handle::new(&split::Config::new().share(1.0)).unwrap();
    let split = RouteSplit::new(new, &handle).fall_back();
    let retry = retry::Config::new().attempts(3).backoff(retry::Backoff::fixed(Duration::ZERO));
    let edge = Edge::new(Config::new(), [route("orders", &["old"]).split(split).retry(retry)]);
    let old = backend(&edge.network, "old", 200);
    let mut new = edge.network.listen("new");
    // A POST without a body is unread, whatever has seen it.
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..20 {
        let (mut client, connection) = edge.send(post, &mut new).await;
        drop(connection);
        assert_eq!(status(&client.answer().await.0), 502);
    }
    assert_eq!(old.count(), 0);
    assert!(edge.network.dialled().iter().any(|dialled| dialled == "down"));
}

/// A new side that no backend answers for: the resolver knows that there is none, or does not answer.
struct Gone(Option<Vec<Instance>>);

impl Resolve for Gone {
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        match self.0.take() {
            Some(set) => Ok(set),
            None => std::future::pending().await,
        }
    }
}

/// Regression: each request waited a second for the new side, and its circuit did not open.
#[tokio::test(start_paused = true)]
async fn edge_3_6_the_old_side_answers_immediately_while_the_new_one_has_no_backend() {
    for (known, seconds) in [(Some(Vec::new()), [0; 3]), (None, [1, 1, 0])] {
        let new = Upstream::resolving(Gone(known), balance::Config::new()).unwrap();
        let handle = Handle::new(&split::Config::new().share(1.0)).unwrap();
        let circuit = circuit_breaker::Config::new().consecutive_failures(2);
        let circuit = CircuitBreakerLayer::new(circuit).unwrap().handle();
        let split = RouteSplit::new(new, &handle).circuit_breaker(circuit.clone()).fall_back();
        let edge = Edge::new(Config::new(), [route("orders", &["old"]).split(split)]);
        let _old = backend(&edge.network, "old", 200);
        for expected in seconds {
            let start = Clock::default().now();
            assert_eq!(ask(&edge, POST).await, (200, "old".into()));
            assert_eq!((Clock::default().now() - start).as_secs(), expected);
        }
        assert_eq!(circuit.state(), CircuitState::Open);
    }
}

/// Regression: the old side got a request whose time was over, and the numbers counted it as a fallback.
#[tokio::test(start_paused = true)]
async fn edge_1_8_a_request_whose_time_is_over_does_not_fall_back() {
    let (route, handle) = shifted(RouteSplit::fall_back, 1.0);
    let edge = Edge::new(Config::new(), [route.time_limit(Duration::from_secs(1))]);
    let old = backend(&edge.network, "old", 200);
    let _new = edge.network.listen("new");
    assert_eq!(ask(&edge, &get("/")).await.0, 504);
    assert_eq!((handle.stats().fell_back, old.count()), (0, 0));
    assert_eq!(edge.network.dialled(), ["new"]);
}

#[test]
fn sides_with_other_versions_of_http_and_wrong_fields_are_refused() {
    let refused = |route: Route| Proxy::new(Config::new(), [route]).unwrap_err().field().to_owned();
    let (handle, both) = (Handle::new(&split::Config::new()).unwrap(), upstream("new").http2());
    let one = || route("orders", &["old"]);
    assert_eq!(
        refused(one().split(RouteSplit::new(both.clone(), &handle))),
        "routes.orders.split.upstream.http2"
    );
    let shadow = RouteShadow::new(both, shadow::Config::new()).unwrap();
    assert_eq!(refused(one().shadow(shadow)), "routes.orders.shadow.upstream.http2");
    let new = || RouteSplit::new(upstream("new"), &handle);
    for (split, field) in [
        (new().stick_by_header("a b"), "routes.orders.split.stick-by-header"),
        (new().force_by_header(""), "routes.orders.split.force-by-header"),
    ] {
        assert_eq!(refused(one().split(split)), field);
    }
    assert!(RouteShadow::new(upstream("a"), shadow::Config::new().share(1.1)).is_err());
    // Regression: these splits stuck to nothing, and said nothing.
    let key = |name: &str| format!("routes.orders.split.{name}");
    assert_eq!(refused(one().split(new().stick_by_subject())), key("stick-by-subject"));
    for field in ["TE", "proxy-user", "keep_alive"] {
        assert_eq!(refused(one().split(new().stick_by_header(field))), key("stick-by-header"));
    }
    assert_eq!(refused(one().split(new().force_by_header("upgrade"))), key("force-by-header"));
    let named = Route::new("b").prefix("/b").to(upstream("b")).admit(ByName);
    let routes = [one().split(new().stick_by_header("x_user")), named.forward_identity("x-user")];
    let error = Proxy::new(Config::new(), routes).unwrap_err();
    assert_eq!(error.field(), key("stick-by-header"));
}
