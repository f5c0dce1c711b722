//! The choice of the backend, and the failures that count against a backend.

use std::time::Duration;

use buttress::balance::{self, Outliers, Policy};
use buttress::discover::{Instance, Resolve};
use buttress::{Clock, Rng, StoreError};
use tokio::sync::mpsc;

use super::COPIES;
use super::support::{Backend, Edge, Raw, field, get, status};
use crate::{BackendStats, Config, RefusedStats, Route, RouteStats, Upstream};

/// A proxy in front of `upstream`, and a clone of it.
fn edge(upstream: &Upstream) -> Edge {
    Edge::new(Config::new(), [Route::new("all").to(upstream.clone()).public()])
}

fn upstream(backends: &[&str], config: balance::Config) -> Upstream {
    Upstream::balanced(backends.iter().copied().map(Instance::at), config).unwrap()
}

/// A proxy in front of the backends that a test sends.
fn resolving() -> (mpsc::UnboundedSender<Vec<Instance>>, Upstream, Edge) {
    let (sender, found) = mpsc::unbounded_channel();
    let upstream = Upstream::resolving(Found(found), balance::Config::new()).unwrap();
    let edge = edge(&upstream);
    (sender, upstream, edge)
}

/// Answers every request with `answer`.
fn always(backend: Backend, answer: &'static str) {
    backend.answer_all(Duration::ZERO, answer);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn edge_2_24_the_second_attempt_never_meets_the_first_backend_again() {
    let upstream = upstream(&["down", "b"], balance::Config::new().policy(Policy::LeastPending));
    let edge = edge(&upstream);
    always(edge.network.listen("b"), OK);
    for _ in 0..100 {
        assert_eq!(status(&edge.open().exchange(get("/")).await.0), 200);
    }
    assert!(edge.network.dialled().iter().any(|dialled| dialled == "down"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_24_a_backend_that_refused_is_not_connected_to_again_if_all_others_are_out() {
    let upstream = upstream(&["x", "y"], balance::Config::new());
    assert!(upstream.handle().mark_down("y"));
    let edge = edge(&upstream);
    assert_eq!(status(&edge.open().exchange(get("/")).await.0), 502);
    assert_eq!(edge.network.dialled(), ["x"]);
    let stats = upstream.stats();
    let expected = BackendStats { begun: 1, failed: 1, ..BackendStats::default() };
    assert_eq!(stats, [("x".into(), expected), ("y".into(), BackendStats::default())]);
    assert_eq!(upstream.handle().stats().failures, 1);
}

/// Accepts the connection to any of two backends.
async fn accept_one_of([a, b]: &mut [Backend; 2]) -> Raw {
    tokio::select! {
        connection = a.accept() => connection,
        connection = b.accept() => connection,
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_client_that_leaves_or_breaks_off_does_not_eject_a_backend() {
    let eject = Outliers::new().consecutive_failures(1);
    let upstream = upstream(&["a", "b"], balance::Config::new().eject(eject));
    let edge = edge(&upstream);
    let mut backends = [edge.network.listen("a"), edge.network.listen("b")];
    for round in 0..20 {
        let mut client = edge.open();
        if round % 2 == 0 {
            client.write(get("/")).await;
        } else {
            client.write("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi").await;
        }
        let mut connection = accept_one_of(&mut backends).await;
        connection.read_head().await;
        drop(client);
        connection.read_to_end().await;
    }
    let stats = upstream.handle().stats();
    assert_eq!((stats.failures, stats.endpoints_in, stats.pending), (0, 2, 0));
    let abandoned: u64 = upstream.stats().iter().map(|(_, stats)| stats.abandoned).sum();
    assert_eq!(abandoned, 20);
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_body_that_a_client_does_not_send_is_not_held_against_the_backend() {
    let eject = Outliers::new().consecutive_failures(1);
    let upstream = upstream(&["a", "b"], balance::Config::new().eject(eject));
    let route = Route::new("all").to(upstream.clone()).public().max_request_body(5);
    let edge = Edge::new(Config::new(), [route]);
    let mut backends = [edge.network.listen("a"), edge.network.listen("b")];
    for (body, expected) in [
        ("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 413),
        ("5\r\nhello\r\nnonsense", 400),
        ("5\r\nhello\r\n", 408),
    ] {
        let mut client = edge.open();
        client.write("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut connection = accept_one_of(&mut backends).await;
        connection.read_head().await;
        client.write(body).await;
        assert_eq!(status(&client.read_head().await), expected, "{body:?}");
    }
    let stats = upstream.handle().stats();
    assert_eq!((stats.failures, stats.endpoints_in, stats.pending), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_2_24_a_failing_backend_is_ejected_by_choice_and_one_that_answers_404_is_not() {
    for (answer, is_ejected) in [(BROKEN, true), ("SSH", true), (NOT_FOUND, false)] {
        let config = balance::Config::new()
            .policy(Policy::RoundRobin)
            .eject(Outliers::new().consecutive_failures(3));
        let upstream = upstream(&["bad", "b"], config);
        let edge = edge(&upstream);
        always(edge.network.listen("bad"), answer);
        always(edge.network.listen("b"), OK);
        let mut good = 0;
        for _ in 0..20 {
            good += u32::from(status(&edge.open().exchange(get("/")).await.0) == 200);
        }
        assert_eq!(good, if is_ejected { 17 } else { 10 }, "{answer}");
        assert_eq!(upstream.handle().stats().ejected, usize::from(is_ejected), "{answer}");
    }
}

/// A resolver that finds what a test sends.
struct Found(mpsc::UnboundedReceiver<Vec<Instance>>);

impl Resolve for Found {
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        self.0.recv().await.ok_or_else(|| StoreError::transient("gone"))
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_24_no_backend_within_a_second_is_503_with_retry_after() {
    let (_sender, _upstream, edge) = resolving();
    let clock = Clock::default();
    let start = clock.now();
    let (head, body) = edge.open().exchange(get("/")).await;
    assert_eq!((status(&head), clock.now() - start), (503, Duration::from_secs(1)));
    assert_eq!(field(&head, "retry-after"), Some("1"));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=destination_unavailable"));
    assert!(body.contains(r#""kind":"no-endpoint""#), "{body}");
    let refused = RefusedStats { no_endpoint: 1, ..RefusedStats::default() };
    let expected = RouteStats { begun: 1, refused, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);

    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let (head, _) = edge.open().exchange(request).await;
    assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some("14")));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_changes_the_backends_and_a_set_without_an_address_changes_nothing() {
    let (sender, upstream, edge) = resolving();
    always(edge.network.listen("a:1"), OK);
    always(edge.network.listen("b:1"), NOT_FOUND);
    let ask = async || status(&edge.open().exchange(get("/")).await.0);
    sender.send(vec![Instance::new("first", "a:1")]).unwrap();
    assert_eq!(ask().await, 200);
    sender.send(vec![Instance::at("ftp://a:1"), Instance::new("second", "b:x")]).unwrap();
    tokio::task::yield_now().await;
    assert_eq!(ask().await, 200);
    assert_eq!(upstream.stats().len(), 1);

    sender.send(vec![Instance::new("second", "http://b:1")]).unwrap();
    // The task asks the resolver again after its failure.
    Clock::default().sleep(Duration::from_secs(2)).await;
    assert_eq!(ask().await, 404);
    let expected = BackendStats { begun: 1, answered: 1, ..BackendStats::default() };
    assert_eq!(upstream.stats(), [("second".into(), expected)]);
}

/// Regression: one instance with an unusable address kept all others out, until the resolver found another set.
#[tokio::test(start_paused = true)]
async fn edge_5_1_an_address_that_is_no_backend_is_left_out_of_the_set() {
    let (sender, upstream, edge) = resolving();
    always(edge.network.listen("10.0.0.1:80"), OK);
    sender.send(vec![Instance::at("10.0.0.1:80"), Instance::at("not an address")]).unwrap();
    assert_eq!(status(&edge.open().exchange(get("/")).await.0), 200);
    let resolver = upstream.handle().stats().resolver.unwrap();
    assert_eq!((resolver.left_out, resolver.failing), (1, 0));
    assert_eq!(upstream.stats().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn edge_5_16_a_set_of_more_than_1000_instances_is_a_failure_of_the_resolver() {
    let (sender, found) = mpsc::unbounded_channel();
    let upstream = Upstream::resolving(Found(found), balance::Config::new()).unwrap();
    let set = |size: u32| (0..size).map(|n| Instance::at(format!("a:{}", n + 1))).collect();
    for (size, endpoints, failed) in [(1001, 0, 1), (1000, 1000, 1)] {
        sender.send(set(size)).unwrap();
        // The task asks the resolver again after its failure.
        Clock::default().sleep(Duration::from_secs(2)).await;
        let stats = upstream.handle().stats();
        assert_eq!((stats.endpoints, stats.resolve_failed), (endpoints, failed), "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_21_a_head_is_copied_only_while_another_attempt_is_possible() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    for (backends, request, copies) in [
        (&["b"][..], post, 0),
        (&["b"], &get("/"), 1),
        (&["b", "c"], put, 1),
        (&["down"], post, 0),
        (&["down", "off"], post, 1),
    ] {
        let edge = edge(&upstream(backends, balance::Config::new()));
        always(edge.network.listen("b"), OK);
        always(edge.network.listen("c"), OK);
        COPIES.set(0);
        edge.open().exchange(request).await;
        assert_eq!(COPIES.get(), copies, "{backends:?} {request}");
    }
}

/// Regression: a backend that answered 429 immediately drew nearly all requests.
#[tokio::test(start_paused = true)]
async fn edge_5_9_a_backend_that_refuses_requests_draws_few_of_them() {
    let eject = Outliers::new().consecutive_failures(1);
    let config = balance::Config::new().rng(Rng::seeded(1)).eject(eject);
    let upstream = upstream(&["works", "busy"], config);
    let edge = edge(&upstream);
    edge.network.listen("works").answer_all(Duration::from_millis(20), OK);
    always(edge.network.listen("busy"), BUSY);
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(status(&edge.open().exchange(get("/")).await.0) == 429);
    }
    assert!((1..=20).contains(&refused), "{refused} of 200");
    assert_eq!(
        (upstream.handle().stats().failures, upstream.handle().stats().endpoints_in),
        (0, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_the_time_limit_of_a_route_does_not_count_against_its_backend() {
    let eject = Outliers::new().consecutive_failures(1);
    let upstream = upstream(&["b"], balance::Config::new().eject(eject));
    let limited = Route::new("all").to(upstream.clone()).public();
    let edge = Edge::new(Config::new(), [limited.time_limit(Duration::from_secs(1))]);
    let mut backend = edge.network.listen("b");
    let clock = Clock::default();
    let start = clock.now();
    let (mut client, _connection) = edge.send(get("/"), &mut backend).await;
    assert_eq!(status(&client.answer().await.0), 504);
    assert_eq!(clock.now() - start, Duration::from_secs(1));
    let expected = BackendStats { begun: 1, abandoned: 1, ..BackendStats::default() };
    assert_eq!(upstream.stats(), [("b".into(), expected)]);
    assert_eq!(upstream.handle().stats().failures, 0);
    let expected = RouteStats { begun: 1, failed: 1, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);
}

/// Regression: a backend whose client uploaded slowly got no request for a minute.
#[tokio::test(start_paused = true)]
async fn edge_5_6_a_client_that_uploads_slowly_does_not_make_its_backend_look_slow() {
    for leaves in [false, true] {
        let upstream = upstream(&["a", "b"], balance::Config::new().rng(Rng::seeded(1)));
        let edge = edge(&upstream);
        let mut backends = [edge.network.listen("a"), edge.network.listen("b")];
        let mut client = edge.open();
        client.write("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").await;
        let mut connection = accept_one_of(&mut backends).await;
        connection.read_head().await;
        for byte in ["x", "y"] {
            Clock::default().sleep(Duration::from_secs(30)).await;
            client.write(byte).await;
            assert_eq!(connection.read_bytes(1).await, byte);
        }
        if leaves {
            Clock::default().sleep(Duration::from_secs(30)).await;
            drop(client);
            connection.read_to_end().await;
        } else {
            client.write("z").await;
            connection.read_bytes(1).await;
            connection.write(OK).await;
            assert_eq!(status(&client.answer().await.0), 200);
        }
        drop(connection);
        let [a, b] = backends;
        always(a, OK);
        always(b, OK);
        for _ in 0..100 {
            assert_eq!(status(&edge.open().exchange(get("/")).await.0), 200);
        }
        for (id, stats) in upstream.stats() {
            assert!(stats.answered >= 25, "{leaves} {id}: {stats:?}");
        }
    }
}
