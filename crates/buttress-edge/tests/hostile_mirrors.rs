//! Mirrors that misbehave, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use buttress::{Clock, shadow};
use buttress_edge::{Config, Proxy, Route, RouteShadow, Upstream, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way of a mirror, and how the shadow counts its answer.
const WAYS: [(&str, &str); 17] = [
    ("reads nothing", "timed out"),
    ("answers nothing", "timed out"),
    ("sends hints without an end", "timed out"),
    ("sends fields without an end", "mirror failed"),
    ("resets before its answer", "mirror failed"),
    ("resets within its body", "incomparable"),
    ("sends a body without an end", "body"),
    ("sends less than its length", "incomparable"),
    ("sends more than its length", "body"),
    ("has two lengths", "mirror failed"),
    ("has a negative length", "mirror failed"),
    ("has a broken chunk", "incomparable"),
    ("switches protocols", "mirror failed"),
    ("answers twice", "same"),
    ("ends with its connection", "same"),
    ("has a trailer", "same"),
    ("answers", "same"),
];

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n";

/// Misbehaves until the proxy closes the connection.
async fn misbehave(way: &str, mut io: TcpStream, mut over: watch::Receiver<bool>) {
    if way == "reads nothing" {
        over.wait_for(|over| *over).await.unwrap();
    } else {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = io.read_u8().await else { return };
            head.push(byte);
        }
    }
    let (first, more) = match way {
        "sends hints without an end" => (String::new(), "HTTP/1.1 103 Early Hints\r\n\r\n"),
        "sends fields without an end" => ("HTTP/1.1 200 OK\r\n".into(), "x-a: b\r\n"),
        "resets within its body" => (format!("{OK}content-length: 9\r\n\r\nok"), ""),
        "sends a body without an end" => {
            (format!("{OK}transfer-encoding: chunked\r\n\r\n"), "2\r\nok\r\n")
        }
        "sends less than its length" => (format!("{OK}content-length: 9\r\n\r\nok"), ""),
        "sends more than its length" => (format!("{OK}content-length: 1\r\n\r\nok"), ""),
        "has two lengths" => (format!("{OK}content-length: 2\r\ncontent-length: 3\r\n\r\nok"), ""),
        "has a negative length" => (format!("{OK}content-length: -2\r\n\r\nok"), ""),
        "has a broken chunk" => {
            (format!("{OK}transfer-encoding: chunked\r\n\r\n2\r\nok\r\nz\r\n"), "")
        }
        "switches protocols" => (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".into(),
            "",
        ),
        "answers twice" => {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            (format!("{answer}{answer}"), "")
        }
        "ends with its connection" => (format!("{OK}\r\nok"), ""),
        "has a trailer" => {
            (format!("{OK}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "")
        }
        "answers" => (format!("{OK}content-length: 2\r\n\r\nok"), ""),
        _ => (String::new(), ""),
    };
    if io.write_all(first.as_bytes()).await.is_err() {
        return;
    }
    while !more.is_empty() {
        if io.write_all(more.repeat(100).as_bytes()).await.is_err() {
            return;
        }
    }
    if way.starts_with("resets") {
        io.set_zero_linger().unwrap();
        return;
    }
    if ["sends less than its length", "ends with its connection"].contains(&way) {
        io.shutdown().await.unwrap();
    }
    // The end, or an error.
    while io.read(&mut [0; 256]).await.is_ok_and(|count| count > 0) {}
}

/// A mirror, and its open connections.
struct Mirror {
    upstream: Upstream,
    open: Arc<AtomicUsize>,
    over: watch::Sender<bool>,
}

/// Listens with a mirror that misbehaves in these ways in turn.
async fn mirror(ways: &'static [(&'static str, &'static str)]) -> Mirror {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (open, (over, is_over)) = (Arc::new(AtomicUsize::new(0)), watch::channel(false));
    let counted = Arc::clone(&open);
    tokio::spawn(async move {
        for (way, _) in ways.iter().cycle() {
            let (io, _) = listener.accept().await.unwrap();
            let (open, is_over) = (Arc::clone(&counted), is_over.clone());
            open.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                misbehave(way, io, is_over).await;
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Mirror { upstream: Upstream::fixed([url]).unwrap(), open, over }
}

/// Answers every request with "ok".
async fn primary() -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let (watch, over) = watch::channel(false);
            tokio::spawn(async move {
                misbehave("answers", io, over).await;
                drop(watch);
            });
        }
    });
    Upstream::fixed([url]).unwrap()
}

async fn gateway(mirror: &Upstream, config: shadow::Config) -> (SocketAddr, Proxy, RouteShadow) {
    let shadow = RouteShadow::new(mirror.clone(), config.share(1.0)).unwrap();
    let shadow = shadow.max_compared_body(64);
    let route = Route::new("all").to(primary().await).shadow(shadow.clone()).public();
    let gateway = Proxy::new(Config::new(), [route]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, gateway.clone()).into_future());
    (address, gateway, shadow)
}

async fn ask(gateway: SocketAddr) {
    let mut io = TcpStream::connect(gateway).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
}

/// Asks `count` times concurrently.
async fn ask_all(gateway: SocketAddr, count: usize) {
    let asked: Vec<_> = (0..count).map(|_| tokio::spawn(ask(gateway))).collect();
    for asked in asked {
        asked.await.unwrap();
    }
}

/// Waits for the ends of all copies, and then for the ends of their connections.
async fn settle(shadow: &RouteShadow, mirror: &Mirror) {
    while shadow.handle().stats().running > 0 {
        tokio::task::yield_now().await;
    }
    mirror.over.send(true).unwrap();
    let mut limit = pin!(Clock::default().sleep(Duration::from_secs(20)));
    while mirror.open.load(Ordering::Relaxed) > 0 {
        let is_over = poll_fn(|cx| Poll::Ready(limit.as_mut().poll(cx).is_ready())).await;
        assert!(!is_over, "{} connections are open", mirror.open.load(Ordering::Relaxed));
        tokio::task::yield_now().await;
    }
}

/// Returns the ends of the copies that are not 0. They add up.
fn ends(shadow: &RouteShadow, mirror: &Upstream) -> Vec<(&'static str, u64)> {
    let (stats, kinds) = (shadow.handle().stats(), shadow.mismatches());
    let all = [
        ("same", stats.same),
        ("status", kinds.status),
        ("body", kinds.body),
        ("mirror failed", kinds.mirror_failed),
        ("incomparable", stats.incomparable),
        ("timed out", stats.timed_out),
    ];
    assert_eq!(kinds.total(), stats.different, "{kinds:?} {stats:?}");
    assert_eq!(stats.mirrored, all.iter().map(|(_, count)| count).sum::<u64>(), "{stats:?}");
    let backend = mirror.stats()[0].1;
    let ended = backend.answered + backend.failed + backend.refused + backend.abandoned;
    assert_eq!((backend.begun, backend.in_flight), (ended, 0), "{backend:?}");
    assert_eq!(backend.begun, stats.mirrored);
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn edge_3_7_each_way_to_misbehave_has_its_end_and_holds_no_client_and_no_connection() {
    for way in &WAYS {
        let mirror = mirror(std::slice::from_ref(way)).await;
        let within = Duration::from_secs(if way.1 == "timed out" { 1 } else { 60 });
        let config = shadow::Config::new().within(within);
        let (address, gateway, shadow) = gateway(&mirror.upstream, config).await;
        ask_all(address, 8).await;
        settle(&shadow, &mirror).await;
        assert_eq!(ends(&shadow, &mirror.upstream), [(way.1, 8)], "a mirror that {}", way.0);
        let stats = gateway.stats()[0].1;
        assert_eq!((stats.begun, stats.answered), (8, 8), "{stats:?}");
    }
}

#[tokio::test]
async fn edge_2_45_the_numbers_of_a_mirror_that_misbehaves_in_turn_add_up_to_the_requests() {
    let mirror = mirror(&WAYS).await;
    let config = shadow::Config::new().within(Duration::from_millis(500)).max_running(8);
    let (address, gateway, shadow) = gateway(&mirror.upstream, config).await;
    let mut asked = 0;
    // Until each way has had its turn a few times.
    while shadow.handle().stats().mirrored < 5 * WAYS.len() as u64 {
        ask_all(address, 12).await;
        asked += 12;
    }
    settle(&shadow, &mirror).await;
    let stats = shadow.handle().stats();
    assert_eq!(stats.mirrored + stats.dropped, asked, "{stats:?}");
    assert!(stats.dropped > 0, "{stats:?}");
    let ends = ends(&shadow, &mirror.upstream);
    assert!(ends.len() == 5 && ends.iter().all(|(_, count)| *count > 1), "{ends:?}");
    let stats = gateway.stats()[0].1;
    assert_eq!((stats.begun, stats.answered), (asked, asked), "{stats:?}");
}
