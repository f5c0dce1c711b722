//! The choice of the backend, and the failures that count against a backend.

use std::time::Duration;

use buttress::balance::{self, Outliers, Policy};
use buttress::discover::{Instance, Resolve};
use buttress::{Clock, StoreError};
use tokio::sync::mpsc;

use super::COPIES;
use super::support::{Backend, Edge, field, get, status};
use crate::{BackendStats, Config, Route, RouteStats, Upstream};

/// A proxy in front of `upstream`, and a clone of it.
fn edge(upstream: &Upstream) -> Edge {
    Edge::new(Config::new(), [Route::new("all").to(upstream.clone()).public()])
}

fn upstream(backends: &[&str], config: balance::Config) -> Upstream {
    Upstream::balanced(backends.iter().copied().map(Instance::at), config).unwrap()
}

/// Answers every request with `answer`.
fn always(mut backend: Backend, answer: &'static str) {
    tokio::spawn(async move {
        loop {
            let mut connection = backend.accept().await;
            tokio::spawn(async move {
                while connection.try_read_head().await && connection.try_write(answer).await {}
            });
        }
    });
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
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
        let [a, b] = &mut backends;
        let mut connection = tokio::select! {
            connection = a.accept() => connection,
            connection = b.accept() => connection,
        };
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
        let [a, b] = &mut backends;
        let mut connection = tokio::select! {
            connection = a.accept() => connection,
            connection = b.accept() => connection,
        };
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
    let (_sender, found) = mpsc::unbounded_channel();
    let upstream = Upstream::resolving(Found(found), balance::Config::new()).unwrap();
    let edge = edge(&upstream);
    let clock = Clock::default();
    let start = clock.now();
    let (head, body) = edge.open().exchange(get("/")).await;
    assert_eq!((status(&head), clock.now() - start), (503, Duration::from_secs(1)));
    assert_eq!(field(&head, "retry-after"), Some("1"));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=destination_unavailable"));
    assert!(body.contains(r#""kind":"no-endpoint""#), "{body}");
    let expected = RouteStats { begun: 1, refused: 1, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);

    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let (head, _) = edge.open().exchange(request).await;
    assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some("14")));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_changes_the_backends_and_an_address_that_is_none_changes_nothing() {
    let (sender, found) = mpsc::unbounded_channel();
    let upstream = Upstream::resolving(Found(found), balance::Config::new()).unwrap();
    let edge = edge(&upstream);
    always(edge.network.listen("a:1"), OK);
    always(edge.network.listen("b:1"), NOT_FOUND);
    let ask = async || status(&edge.open().exchange(get("/")).await.0);
    sender.send(vec![Instance::new("first", "a:1")]).unwrap();
    assert_eq!(ask().await, 200);
    sender.send(vec![Instance::at("https://a:1"), Instance::new("second", "b:1")]).unwrap();
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
