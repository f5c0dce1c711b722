//! Every request ends in exactly one number.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use http::Request;
use http_body_util::BodyExt;
use tower::Service;

use super::support::{Backend, Edge, get, route, status};
use crate::{BackendStats, Body, Config, RefusedStats, Route, RouteStats, Upstream};

#[tokio::test(start_paused = true)]
async fn edge_2_45_each_end_has_its_number() {
    let routes =
        [route("all", &["b"]).max_request_body(3), route("away", &["away"]).prefix("/away")];
    let edge = Edge::new(Config::new(), routes);
    let mut backend = edge.network.listen("b");
    let stats =
        |name: &str| edge.proxy.stats().into_iter().find(|(given, _)| given == name).unwrap().1;

    let mut client = edge.open();
    client.write(get("/")).await;
    let (connection, _) = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200);
    drop(connection);
    let expected = RouteStats { begun: 1, answered: 1, ..RouteStats::default() };
    assert_eq!(stats("all"), expected);

    client.exchange("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await;
    let refused = RefusedStats { bad_request: 1, ..RefusedStats::default() };
    let expected = RouteStats { begun: 2, refused, ..expected };
    assert_eq!(stats("all"), expected);

    // A body that breaks off.
    let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
    assert_eq!(stats("all"), RouteStats { begun: 3, in_flight: 1, ..expected });
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").await;
    drop(connection);
    client.read_to_end().await;
    let expected = RouteStats { begun: 3, failed: 1, ..expected };
    assert_eq!(stats("all"), expected);

    // A client that leaves.
    let (client, mut connection) = edge.send(get("/"), &mut backend).await;
    drop(client);
    connection.read_to_end().await;
    assert_eq!(stats("all"), RouteStats { begun: 4, abandoned: 1, ..expected });

    assert_eq!(status(&edge.open().exchange(get("/away")).await.0), 502);
    assert_eq!(stats("away"), RouteStats { begun: 1, failed: 1, ..RouteStats::default() });

    assert_eq!(edge.proxy.unrouted(), 0);
    assert_eq!(status(&edge.open().exchange(get("/a//b")).await.0), 400);
    assert_eq!(edge.proxy.unrouted(), 1);
}

/// A generator of numbers that a seed repeats.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Answers, fails, breaks off and hangs.
async fn misbehave(mut backend: Backend) {
    let draw = Arc::new(Mutex::new(Draw(7)));
    loop {
        let mut connection = backend.accept().await;
        let draw = Arc::clone(&draw);
        tokio::spawn(async move {
            while connection.try_read_head().await {
                let way = draw.lock().unwrap().below(5);
                let answer = match way {
                    0 | 1 => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                    2 => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
                    3 => "SSH",
                    _ => "",
                };
                if way == 4 {
                    Clock::default().sleep(Duration::from_secs(3)).await;
                }
                if !connection.try_write(answer).await || way > 1 {
                    return;
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_45_the_numbers_add_up_under_ten_thousand_random_cancels() {
    let upstream = Upstream::fixed(["http://b"]).unwrap();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream.clone()).public()]);
    let backend = tokio::spawn(misbehave(edge.network.listen("b")));
    let mut draw = Draw(1);
    let mut calls = Vec::new();
    for _ in 0..10_000 {
        let mut proxy = edge.proxy.clone();
        let (steps, wait) = (draw.below(40), draw.below(20) == 0);
        let request = Request::get("/").header("host", "a").body(Body::empty()).unwrap();
        let call = tokio::spawn(async move {
            let response = proxy.call(request).await.unwrap();
            response.into_body().collect().await.is_ok()
        });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        if wait {
            Clock::default().sleep(Duration::from_secs(1)).await;
        }
        call.abort();
        calls.push(call);
    }
    for call in calls {
        drop(call.await);
    }
    let stats = edge.proxy.stats()[0].1;
    let RouteStats { begun, answered, failed, abandoned, in_flight, .. } = stats;
    let refused = stats.refused.total();
    assert_eq!(in_flight, 0, "{stats:?}");
    // A call that was cancelled before it was polled has not begun.
    assert!(begun > 9_000, "{stats:?}");
    assert_eq!(answered + failed + refused + abandoned, begun);
    // The test reached every end that it can.
    assert!(answered > 100 && failed > 100 && abandoned > 100, "{stats:?}");
    backend.abort();

    // Each request that found the route was given to the backend.
    let expected = BackendStats { begun, answered, failed, refused, abandoned, in_flight };
    assert_eq!(upstream.stats(), [(String::from("http://b"), expected)]);
    assert_eq!(upstream.handle().stats().pending, 0);
}
