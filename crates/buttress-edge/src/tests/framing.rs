//! Header fields and framing on the wire.

use buttress_http::context::Trust;
use http::{Request, Version};
use tower::Service;

use super::support::{Edge, field, get, route, status};
use crate::{Body, Config};

#[tokio::test(start_paused = true)]
async fn edge_2_9_fields_of_the_connection_are_dropped_both_ways_and_never_ours() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    client
        .write(
            "GET / HTTP/1.1\r\nHost: a\r\n\
             Connection: close, X-Secret, x-forwarded-for, via, host\r\nx-secret: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Authorization: Basic eA==\r\nTE: gzip\r\n\
             X-Forwarded-For: 203.0.113.9\r\nAccept: */*\r\n\r\n",
        )
        .await;
    let (mut connection, head) = backend.accept_request().await;
    for gone in ["connection", "x-secret", "keep-alive", "proxy-authorization", "te", "upgrade"] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    assert_eq!(field(&head, "accept"), Some("*/*"));
    assert_eq!(field(&head, "x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("a"));
    assert_eq!(field(&head, "via"), Some("1.1 buttress"));
    connection
        .write(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-inner\r\nx-inner: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 0\r\nx-kept: 1\r\n\r\n",
        )
        .await;
    let (head, _) = client.answer().await;
    for gone in ["x-inner", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    // The client asked for it.
    assert_eq!(field(&head, "connection"), Some("close"));
    assert_eq!(field(&head, "x-kept"), Some("1"));
    assert_eq!(field(&head, "via"), Some("1.1 buttress"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_10_a_request_with_unclear_framing_is_400_and_nothing_is_sent_on() {
    let edge = Edge::new(Config::new(), [route("all", &["b"])]);
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X: a\r\n b\r\n",
        "X : a\r\n",
        "X: a\0b\r\n",
    ] {
        let mut client = edge.open();
        client.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n")).await;
        let answer = client.read_to_end().await;
        assert_eq!(status(&answer), 400, "{fields:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{fields:?}: {answer}");
    }
    assert_eq!(edge.network.dialled(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_10_a_length_beside_chunks_is_not_sent_on_and_the_connection_closes() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    client
        .write(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    let (mut connection, head) = backend.accept_request().await;
    assert_eq!(field(&head, "content-length"), None);
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(connection.read_until("0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
    connection.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (head, _) = client.answer().await;
    assert_eq!((status(&head), field(&head, "connection")), (200, Some("close")));
    assert_eq!(client.read_to_end().await, "");

    // Chunks alone leave the connection open.
    let mut client = edge.open();
    for _ in 0..2 {
        client
            .write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
            .await;
        connection.read_until("0\r\n\r\n").await;
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let (head, _) = client.answer().await;
        assert_eq!((status(&head), field(&head, "connection")), (200, None));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_11_a_response_with_both_framings_keeps_its_chunks_only() {
    let (edge, mut backend) = Edge::simple();
    let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
    connection
        .write(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
        )
        .await;
    let head = client.read_head().await;
    assert_eq!(field(&head, "content-length"), None, "{head}");
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(client.read_until("0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn edge_2_12_five_entries_in_via_are_508() {
    let edge = Edge::new(Config::new().name("edge-1"), [route("all", &["b"])]);
    let mut backend = edge.network.listen("b");
    let with_via = |via: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n");
    let mut client = edge.open();
    client.write(with_via("1.1 edge-1, 1.1 edge-1, 1.1 edge-1, 1.1 EDGE-1, 1.1 other")).await;
    let (_connection, head) = backend.serve_one().await;
    assert!(head.contains("via: 1.1 edge-1\r\n"), "{head}");
    assert_eq!(status(&client.answer().await.0), 200);
    let (head, _) = client.exchange(with_via(&["1.1 edge-1"; 5].join(","))).await;
    assert_eq!(status(&head), 508);
    assert_eq!(field(&head, "proxy-status"), Some("edge-1; error=proxy_loop_detected"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_13_head_204_and_304_have_no_body() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    for (request, answer, length) in [
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5", Some("5")),
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
            Some("5"),
        ),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5, 6", None),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 5", None),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
            None,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked",
            None,
        ),
    ] {
        client.write(request).await;
        let (mut connection, _) = backend.accept_request().await;
        connection.write(format!("{answer}\r\nConnection: close\r\n\r\nhello")).await;
        drop(connection);
        let head = client.read_head().await;
        assert_eq!(field(&head, "content-length"), length, "{answer}: {head}");
        assert_eq!(field(&head, "transfer-encoding"), None, "{answer}");
    }
    // The next answer begins where the last head ended.
    let (head, _) = client.exchange("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&head), 405);
}

#[tokio::test(start_paused = true)]
async fn edge_2_14_trailers_pass_both_ways() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    client
        .write(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n",
        )
        .await;
    let (mut connection, head) = backend.accept_request().await;
    assert_eq!((field(&head, "te"), field(&head, "connection")), (Some("trailers"), Some("te")));
    assert_eq!(field(&head, "trailer"), Some("x-sum"));
    let body = connection.read_until("\r\n\r\n").await;
    assert_eq!(body, "2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n");
    connection
        .write(
            "HTTP/1.1 200 OK\r\nTrailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\nx-end: 8\r\n\r\n",
        )
        .await;
    assert_eq!(field(&client.read_head().await, "trailer"), Some("x-end"));
    assert_eq!(client.read_until("\r\n\r\n").await, "2\r\nok\r\n0\r\nx-end: 8\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn edge_2_15_early_hints_are_dropped_and_the_expectation_is_met_once() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    let upload = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.write(upload).await;
    let (mut connection, head) = backend.accept_request().await;
    assert_eq!(field(&head, "expect"), None);
    assert_eq!(client.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write("hi").await;
    assert_eq!(connection.read_until("hi").await, "hi");
    connection
        .write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        .await;
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status(&client.answer().await.0), 200);
    // A refusal answers without reading the body.
    let refused = upload.replace("POST /", "POST /a//b");
    let (head, _) = edge.open().exchange(refused).await;
    assert_eq!(status(&head), 400);
}

#[tokio::test(start_paused = true)]
async fn edge_2_41_fields_of_trusted_peers_are_kept() {
    let config = Config::new().trust(Trust::gateways(["192.0.2.0/24"]).unwrap());
    let mut edge = Edge::new(config, [route("all", &["b"])]);
    let mut backend = edge.network.listen("b");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.9\r\n\
                   X-Forwarded-Proto: https\r\n\r\n";
    for (peer, list, proto) in [
        (Some([192, 0, 2, 7]), Some("203.0.113.9, 192.0.2.7"), "https"),
        (Some([198, 51, 100, 7]), Some("198.51.100.7"), "http"),
        // Without a peer nothing is believed.
        (None, None, "http"),
    ] {
        edge.peer = peer.map(Into::into);
        let mut client = edge.open();
        client.write(request).await;
        let (_, head) = backend.serve_one().await;
        assert_eq!(field(&head, "x-forwarded-for"), list);
        assert_eq!(field(&head, "x-forwarded-proto"), Some(proto));
        client.answer().await;
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_10_another_coding_than_chunks_is_refused() {
    let (edge, mut backend) = Edge::simple();
    for coding in ["gzip, chunked", "chunked, chunked"] {
        let mut client = edge.open();
        client
            .write(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
            ))
            .await;
        let answer = client.read_to_end().await;
        assert_eq!(
            (status(&answer), field(&answer, "connection")),
            (400, Some("close")),
            "{coding}"
        );
    }
    assert_eq!(edge.network.dialled(), [""; 0]);

    let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
    connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(status(&client.answer().await.0), 502);
}

#[tokio::test(start_paused = true)]
async fn a_get_with_chunks_arrives_with_its_body() {
    for method in ["GET", "HEAD"] {
        let (edge, mut backend) = Edge::simple();
        let mut client = edge.open();
        client
            .write(format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ))
            .await;
        let (mut connection, head) = backend.accept_request().await;
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
        assert_eq!(connection.read_until("0\r\n\r\n").await, "5\r\nhello\r\n0\r\n\r\n");
    }
}

#[tokio::test(start_paused = true)]
async fn http2_cookies_and_equal_lengths_arrive_as_one_field() {
    let (edge, mut backend) = Edge::simple();
    let request = Request::post("http://a/")
        .version(Version::HTTP_2)
        .header("cookie", "sid=1")
        .header("cookie", "theme=dark")
        .header("content-length", "2")
        .header("content-length", "2")
        .body(Body::from("hi"))
        .unwrap();
    let call = tokio::spawn(edge.proxy.clone().call(request));
    let (_connection, head) = backend.serve_one().await;
    assert_eq!(field(&head, "cookie"), Some("sid=1; theme=dark"));
    assert_eq!(field(&head, "content-length"), Some("2"));
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn edge_2_6_an_absolute_target_needs_a_valid_host_beside_it() {
    let (edge, _backend) = Edge::simple();
    for host in ["", "Host: a b\r\n", "Host: u@a\r\n"] {
        let mut client = edge.open();
        client.write(format!("GET http://a/ HTTP/1.1\r\n{host}\r\n")).await;
        assert_eq!(status(&client.read_to_end().await), 400, "{host}");
    }
}
