//! Mirrors without an end, and clients that leave.

use std::time::Duration;

use buttress::Clock;

use super::super::mirror::idle;
use super::super::{get, route};
use super::{BROKEN, answers, chunked, compared, end, ok, trailed};
use crate::tests::support::{Edge, Raw, status};
use crate::{Config, RouteShadow};

/// A request whose primary has answered with `ok`, and whose mirror has got its copy.
async fn asked(edge: &Edge) -> Raw {
    let mut mirror = edge.network.listen("mirror");
    answers(&edge.network, "primary", &ok("", "ok"));
    let start = Clock::default().now();
    assert_eq!(edge.open().exchange(get("/")).await.1, "ok");
    let (connection, _) = mirror.accept_request().await;
    assert_eq!(Clock::default().now() - start, Duration::ZERO);
    connection
}

/// Waits for the end of the copy, and returns the seconds that it took.
async fn seconds(shadow: &RouteShadow) -> u64 {
    let start = Clock::default().now();
    idle(&shadow.handle()).await;
    // To look takes a millisecond.
    (Clock::default().now() - start + Duration::from_millis(500)).as_secs()
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_mirror_without_an_end_holds_its_slot_and_no_client() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    let ends_as = |edge: &Edge| edge.proxy.handle().mirror("orders").unwrap().stats()[0].1;
    // The mirror sends one byte too much, and stays open.
    let (edge, shadow) = compared(|shadow| shadow.max_compared_body(2));
    let mut mirror = asked(&edge).await;
    mirror.write(format!("{ENDLESS}1\r\nx\r\n")).await;
    assert_eq!(seconds(&shadow).await, 0);
    assert_eq!(end(&shadow), ("different", "body"));
    assert_eq!(mirror.read_to_end().await, "", "the connection is closed");
    assert_eq!((ends_as(&edge).begun, ends_as(&edge).abandoned), (1, 1));

    // It announces more than the limit, and sends nothing.
    let (edge, shadow) = compared(|shadow| shadow.max_compared_body(2));
    let mut mirror = asked(&edge).await;
    mirror.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n").await;
    assert_eq!(seconds(&shadow).await, 0);
    assert_eq!(end(&shadow), ("different", "body"));

    // It sends what the client got, and no end.
    let (edge, shadow) = compared(|shadow| shadow);
    let mut mirror = asked(&edge).await;
    mirror.write(ENDLESS).await;
    assert_eq!(seconds(&shadow).await, 5);
    assert_eq!(end(&shadow), ("timed out", "nothing"));
    assert_eq!((ends_as(&edge).begun, ends_as(&edge).abandoned), (1, 1));

    // The head decides: the rest is not waited for.
    let (edge, shadow) = compared(|shadow| shadow);
    let mut mirror = asked(&edge).await;
    mirror.write(ENDLESS.replace("200", "500")).await;
    assert_eq!(seconds(&shadow).await, 1);
    assert_eq!(end(&shadow), ("different", "status"));
    let (edge, shadow) = compared(|shadow| shadow.max_compared_body(0));
    let mut mirror = asked(&edge).await;
    mirror.write(ENDLESS).await;
    assert_eq!(seconds(&shadow).await, 1);
    assert_eq!(end(&shadow), ("same", "nothing"));

    // It answers nothing.
    let (edge, shadow) = compared(|shadow| shadow);
    let _mirror = asked(&edge).await;
    assert_eq!(seconds(&shadow).await, 5);
    assert_eq!(end(&shadow), ("timed out", "nothing"));
}

#[tokio::test(start_paused = true)]
async fn edge_3_10_a_client_that_leaves_or_reads_slowly_makes_no_mismatch() {
    let long = "x".repeat(1 << 20);
    for leaves in [true, false] {
        let (edge, shadow) = compared(|shadow| shadow.max_compared_body(1 << 20));
        answers(&edge.network, "primary", &ok("", &long));
        answers(&edge.network, "mirror", &ok("", &long));
        let mut client = edge.open();
        client.write(get("/")).await;
        client.read_head().await;
        if leaves {
            drop(client);
            assert_eq!(seconds(&shadow).await, 0);
            assert_eq!(end(&shadow), ("incomparable", "nothing"));
            assert_eq!(edge.proxy.stats()[0].1.abandoned, 1);
        } else {
            // The copy ends at its limit, and the client still gets everything.
            assert_eq!(seconds(&shadow).await, 5);
            assert_eq!(end(&shadow), ("timed out", "nothing"));
            assert_eq!(client.bytes(long.len()).await, long.as_bytes());
            assert_eq!(edge.proxy.stats()[0].1.answered, 1);
        }
        let mirror = edge.proxy.handle().mirror("orders").unwrap().stats()[0].1;
        assert_eq!((mirror.begun, mirror.answered), (1, 1), "its answer is read whole");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_45_the_numbers_of_a_mirror_add_up_whatever_it_does() {
    let set = |shadow: RouteShadow| shadow.max_compared_body(16).compare_fields(["x-kind"]);
    let (edge, shadow) = compared(set);
    let mut network = edge.network.listen("mirror");
    let script = [
        ok("", "abc"),
        ok("", "abd"),
        ok("x-kind: b\r\n", "abc"),
        ok("", "abc").replace("200", "500"),
        BROKEN.into(),
        chunked("abcdefghijklmnopq"),
        "HTTP/1.1 20".into(),
        String::new(),
    ];
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut connection, answer) = (network.accept().await, script[turn % 8].clone());
            tokio::spawn(async move {
                connection.read_head().await;
                connection.try_write(&answer).await;
                if answer.is_empty() {
                    connection.read_to_end().await;
                }
            });
        }
    });
    answers(&edge.network, "primary", &ok("", "abc"));
    for turn in 0..400 {
        let mut client = edge.open();
        client.write(get("/")).await;
        if turn % 7 > 0 {
            assert_eq!(status(&client.answer().await.0), 200);
        }
    }
    idle(&shadow.handle()).await;
    let stats = shadow.handle().stats();
    let ended = stats.same
        + stats.different
        + stats.incomparable
        + stats.timed_out
        + stats.panicked
        + stats.abandoned
        + stats.not_compared;
    assert_eq!((stats.mirrored, stats.running), (ended, 0), "{stats:?}");
    assert_eq!((stats.panicked, stats.abandoned, stats.not_compared), (0, 0, 0), "{stats:?}");
    let kinds = shadow.mismatches();
    assert_eq!(kinds.total(), stats.different, "{kinds:?}");
    for seen in [kinds.status, kinds.fields, kinds.body, kinds.mirror_failed, stats.same] {
        assert!(seen > 10, "{kinds:?} {stats:?}");
    }
    assert!(stats.incomparable > 10 && stats.timed_out > 10, "{stats:?}");
    let mirror = edge.proxy.handle().mirror("orders").unwrap().stats()[0].1;
    let ended = mirror.answered + mirror.failed + mirror.refused + mirror.abandoned;
    assert_eq!((mirror.begun, mirror.in_flight), (ended, 0), "{mirror:?}");
    assert_eq!(mirror.begun, stats.mirrored);
}

/// Regression: a listener of HTTP/1.1 reads nothing after the trailers, and the answer counted as abandoned and
/// incomparable.
#[tokio::test(start_paused = true)]
async fn edge_2_45_an_answer_with_trailers_is_answered_and_compared() {
    for (fields, last) in [("", "0\r\n\r\n"), ("TE: trailers\r\n", "0\r\nx-end: 7\r\n\r\n")] {
        let (mirrored, shadow) = compared(|shadow| shadow);
        let plain = Edge::new(Config::new(), [route("orders", &["primary"])]);
        answers(&mirrored.network, "mirror", &trailed("ok"));
        for edge in [&mirrored, &plain] {
            answers(&edge.network, "primary", &trailed("ok"));
            let mut client = edge.open();
            for turn in 1..=2 {
                client.write(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
                client.read_head().await;
                assert_eq!(client.read_until(last).await, format!("1\r\no\r\n1\r\nk\r\n{last}"));
                let stats = edge.proxy.stats()[0].1;
                assert_eq!((stats.begun, stats.answered), (turn, turn), "{stats:?}");
                let stats = edge.proxy.handle().upstream("orders").unwrap().stats()[0].1;
                assert_eq!((stats.begun, stats.answered), (turn, turn), "{stats:?}");
                idle(&shadow.handle()).await;
            }
            let dialled = edge.network.dialled();
            let dials = |name: &str| dialled.iter().filter(|dialled| *dialled == name).count();
            assert!(dials("primary") == 1 && dials("mirror") <= 1, "{dialled:?}");
        }
        let stats = shadow.handle().stats();
        assert_eq!((stats.mirrored, stats.same), (2, 2), "{stats:?}");
    }
}
