//! Requests that the retry of a route repeats, and requests that it does not.

use std::time::Duration;

use buttress::balance::{self, Policy};
use buttress::discover::Instance;
use buttress::retry::{self, Backoff, Budget, Jitter};
use buttress::{Clock, Rng};

use super::support::{Backend, Edge, Raw, field, get, route, status};
use crate::{BackendStats, Config, Route, RouteStats, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
const SECOND: Duration = Duration::from_secs(1);

/// Two attempts, a second apart.
fn twice() -> retry::Config {
    let backoff = Backoff::fixed(SECOND).jitter(Jitter::None);
    retry::Config::new().attempts(2).backoff(backoff).rng(Rng::seeded(1))
}

fn edge(route: Route) -> (Edge, Backend) {
    let edge = Edge::new(Config::new(), [route]);
    let backend = edge.network.listen("b");
    (edge, backend)
}

fn request(method: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

/// Answers the next request, and returns what the backend got of it.
async fn answer(backend: &mut Backend, length: usize, answer: &str) -> (Raw, String) {
    let (mut connection, head) = backend.accept_request().await;
    let body = connection.read_bytes(length).await;
    connection.write(answer).await;
    (connection, head + &body)
}

#[tokio::test(start_paused = true)]
async fn edge_2_22_idempotent_requests_are_repeated_with_their_body_and_others_are_not() {
    let (edge, mut backend) = edge(route("all", &["b"]).retry(twice()));
    let clock = Clock::default();
    for (method, body) in [("GET", ""), ("PUT", "hello"), ("DELETE", "")] {
        for first in [UNAVAILABLE, ""] {
            let start = clock.now();
            let mut client = edge.open();
            client.write(request(method, "", body)).await;
            drop(answer(&mut backend, body.len(), first).await);
            let (_connection, seen) = answer(&mut backend, body.len(), OK).await;
            assert!(seen.starts_with(method) && seen.ends_with(body), "{seen}");
            assert_eq!(field(&seen, "content-length").unwrap_or("0"), body.len().to_string());
            assert_eq!(status(&client.answer().await.0), 200, "{method} {first}");
            assert_eq!(clock.now() - start, SECOND);
        }
    }
    for fields in ["", "Idempotency-Key: \"7\"\r\n"] {
        for (first, expected) in [(UNAVAILABLE, 503), ("", 502), ("SSH-2.0\r\n\r\n", 502)] {
            let mut client = edge.open();
            client.write(request("POST", fields, "hello")).await;
            drop(answer(&mut backend, 5, first).await);
            assert_eq!(status(&client.answer().await.0), expected, "{fields} {first}");
        }
    }
    let dialled = edge.network.dialled().len();
    assert_eq!(dialled, 2 * 6 + 6);
    let stats = edge.proxy.stats()[0].1;
    let expected = RouteStats { begun: 12, answered: 8, failed: 4, ..RouteStats::default() };
    assert_eq!(stats, expected);
}

#[tokio::test(start_paused = true)]
async fn edge_2_22_a_key_makes_a_post_repeatable_where_the_route_says_so() {
    let route = route("all", &["b"]).retry(twice()).backend_honours_idempotency_keys();
    let (edge, mut backend) = edge(route);
    for (fields, repeats) in
        [("Idempotency-Key: \"7\"\r\n", true), ("Idempotency-Key:\r\n", false), ("", false)]
    {
        let mut client = edge.open();
        client.write(request("POST", fields, "hello")).await;
        drop(answer(&mut backend, 5, "").await);
        if repeats {
            let (_connection, seen) = answer(&mut backend, 5, OK).await;
            assert!(seen.ends_with("hello"), "{seen}");
        }
        let expected = if repeats { 200 } else { 502 };
        assert_eq!(status(&client.answer().await.0), expected, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_22_a_request_that_no_backend_has_seen_is_repeated_whatever_its_method() {
    let edge = Edge::new(Config::new(), [route("all", &["b"]).retry(twice())]);
    let mut client = edge.open();
    client.write(request("POST", "", "hello")).await;
    while edge.network.dialled().is_empty() {
        tokio::task::yield_now().await;
    }
    // The backend starts within the wait.
    let mut backend = edge.network.listen("b");
    let (_connection, seen) = answer(&mut backend, 5, OK).await;
    assert!(seen.ends_with("hello"), "{seen}");
    assert_eq!(status(&client.answer().await.0), 200);
    assert_eq!(edge.network.dialled(), ["b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_25_a_body_beyond_the_replay_buffer_is_not_sent_again() {
    let (edge, mut backend) = edge(route("all", &["b"]).retry(twice()).replay_buffer(5));
    // Announced, and not announced.
    let mut client = edge.open();
    client.write(request("PUT", "", "longer")).await;
    drop(answer(&mut backend, 6, "").await);
    assert_eq!(status(&client.answer().await.0), 502);
    for (chunks, repeats) in [("5\r\nhello\r\n", true), ("3\r\nhel\r\n3\r\nlo!\r\n", false)] {
        let mut client = edge.open();
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write(format!("{head}{chunks}0\r\n\r\n")).await;
        let mut connection = backend.accept().await;
        connection.read_until("0\r\n\r\n").await;
        drop(connection);
        if repeats {
            let mut connection = backend.accept().await;
            // The length is known by now.
            assert_eq!(field(&connection.read_head().await, "content-length"), Some("5"));
            assert_eq!(connection.read_bytes(5).await, "hello");
            connection.write(OK).await;
        }
        let expected = if repeats { 200 } else { 502 };
        assert_eq!(status(&client.answer().await.0), expected, "{chunks}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_25_a_body_that_the_client_still_sends_is_taken_over_by_the_next_attempt() {
    let (edge, mut backend) = edge(route("all", &["b"]).retry(twice()));
    let mut client = edge.open();
    client.write("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await;
    let (first, _) = answer(&mut backend, 2, UNAVAILABLE).await;
    let (mut connection, _) = backend.accept_request().await;
    assert_eq!(connection.read_bytes(2).await, "ab");
    client.write("cd").await;
    assert_eq!(connection.read_bytes(2).await, "cd");
    connection.write(OK).await;
    assert_eq!(status(&client.answer().await.0), 200);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn edge_2_25_an_answer_whose_head_was_passed_on_is_not_repeated() {
    let (edge, mut backend) = edge(route("all", &["b"]).retry(twice()));
    let mut client = edge.open();
    client.write(get("/")).await;
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc";
    drop(answer(&mut backend, 0, cut).await);
    assert!(client.read_to_end().await.ends_with("abc"));
    assert_eq!(edge.network.dialled(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_26_an_empty_budget_makes_the_first_result_the_answer() {
    let none = twice().budget(Budget::new(0.0, 0).unwrap());
    let turns = balance::Config::new().policy(Policy::RoundRobin);
    let upstream = Upstream::balanced(["down", "b"].map(Instance::at), turns).unwrap();
    let (edge, mut backend) = edge(Route::new("all").to(upstream).public().retry(none));
    // A refused connection and a stale one are outside of the budget.
    let mut client = edge.open();
    client.write(get("/")).await;
    let (connection, _) = answer(&mut backend, 0, OK).await;
    assert_eq!(status(&client.answer().await.0), 200);
    assert_eq!(edge.network.dialled(), ["down", "b"]);
    client.write(get("/")).await;
    let mut connection = connection;
    connection.read_head().await;
    drop(connection);
    let (_connection, _) = answer(&mut backend, 0, UNAVAILABLE).await;
    let (head, body) = client.answer().await;
    assert_eq!((status(&head), &*body), (503, "busy"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_26_without_a_budget_of_its_own_a_route_repeats_a_fifth_and_three_a_second() {
    let route = route("all", &["b"]);
    let soon = twice().backoff(Backoff::fixed(Duration::ZERO));
    let (edge, mut backend) = edge(route.retry(soon));
    tokio::spawn(async move {
        loop {
            drop(answer(&mut backend, 0, UNAVAILABLE).await);
        }
    });
    for _ in 0..200 {
        let (head, _) = edge.open().exchange(request("GET", "", "")).await;
        assert_eq!(status(&head), 503);
    }
    // A fifth of 200, and 3 per second of the window of 10 seconds.
    assert_eq!(edge.network.dialled().len(), 200 + 40 + 30);
}

#[tokio::test(start_paused = true)]
async fn edge_2_24_the_attempts_of_a_retry_meet_different_backends_while_another_one_is_in() {
    let backends = ["x", "y", "z"];
    let upstream = Upstream::balanced(backends.map(Instance::at), balance::Config::new()).unwrap();
    let three = twice().attempts(4);
    let route = Route::new("all").to(upstream.clone()).public().retry(three);
    let edge = Edge::new(Config::new(), [route]);
    let connections: Vec<Backend> = backends.map(|name| edge.network.listen(name)).into();
    for mut backend in connections {
        tokio::spawn(async move {
            loop {
                drop(answer(&mut backend, 0, UNAVAILABLE).await);
            }
        });
    }
    for _ in 0..20 {
        let before = edge.network.dialled().len();
        assert_eq!(status(&edge.open().exchange(get("/")).await.0), 503);
        let mut met = edge.network.dialled().split_off(before);
        assert_eq!(met.len(), 4);
        met.truncate(3);
        met.sort();
        assert_eq!(met, backends);
    }
    // An answer that another attempt replaces is a failure of its backend.
    let sum = |read: fn(&BackendStats) -> u64| -> u64 {
        upstream.stats().iter().map(|(_, stats)| read(stats)).sum()
    };
    assert_eq!((sum(|stats| stats.failed), sum(|stats| stats.answered)), (60, 20));
    assert_eq!(sum(|stats| stats.abandoned + stats.in_flight), 0);
}

#[tokio::test(start_paused = true)]
async fn edge_1_8_retry_after_is_the_least_wait_and_no_attempt_begins_after_the_time_limit() {
    let clock = Clock::default();
    for (limit, repeats) in [(8, true), (7, false)] {
        let route = route("all", &["b"]).retry(twice());
        let (edge, mut backend) = edge(route.time_limit(Duration::from_secs(limit)));
        let start = clock.now();
        let mut client = edge.open();
        client.write(get("/")).await;
        let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        drop(answer(&mut backend, 0, busy).await);
        if repeats {
            let (_connection, _) = answer(&mut backend, 0, OK).await;
            assert_eq!(clock.now() - start, Duration::from_secs(7));
        }
        let (head, _) = client.answer().await;
        assert_eq!(status(&head), if repeats { 200 } else { 503 });
        if !repeats {
            // The last answer comes immediately.
            assert_eq!(
                (clock.now() - start, field(&head, "retry-after")),
                (Duration::ZERO, Some("7"))
            );
        }
    }
}

#[test]
fn a_retry_that_cannot_work_is_refused_with_its_field() {
    let route = route("a", &["b"]).retry(retry::Config::new().attempts(0));
    let error = crate::Proxy::new(Config::new(), [route]).unwrap_err();
    assert_eq!(error.field(), "routes.a.retry.attempts");
}
