//! Routing and paths on the wire.

use http::Method;

use super::support::{Edge, field, get, route, status};
use crate::{Config, Route, Upstream};

/// Returns the request line that a backend sees.
async fn seen(target: &str, route: Route) -> String {
    let edge = Edge::new(Config::new(), [route]);
    let mut backend = edge.network.listen("b");
    let mut client = edge.open();
    client.write(get(target)).await;
    let (_connection, head) = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200);
    head.lines().next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn edge_2_3_query_and_escapes_arrive_byte_for_byte() {
    for target in [
        "/",
        "/?",
        "/%61pi/x",
        "/a%20b/gr%c3%b6%C3%9Fe",
        "/a?b=%2F..%2f&c=//../&d=%zz;e\\",
        "/a/?x=/./",
    ] {
        assert_eq!(seen(target, route("all", &["b"])).await, format!("GET {target} HTTP/1.1"));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_2_an_encoded_question_mark_or_hash_belongs_to_the_segment() {
    // It is neither the route `/admin` nor a query, and the backend gets it as it was written.
    for target in ["/admin%3f", "/admin%3F/x", "/admin%23", "/admin%23a?b=%3f"] {
        let edge = Edge::new(
            Config::new(),
            [route("admin", &["a"]).prefix("/admin"), route("rest", &["b"])],
        );
        let mut backend = edge.network.listen("b");
        let mut client = edge.open();
        client.write(get(target)).await;
        let (_connection, head) = backend.serve_one().await;
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
        assert_eq!(edge.network.dialled(), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_3_an_encoded_slash_is_refused_and_passes_unchanged_where_it_is_allowed() {
    let open = route("files", &["b"]).prefix("/files").allow_encoded_slash();
    assert_eq!(seen("/files/a%2fb", open.clone()).await, "GET /files/a%2fb HTTP/1.1");
    // The choice of one route is not a choice for another.
    let edge = Edge::new(Config::new(), [open, route("rest", &["b"])]);
    let (head, _) = edge.open().exchange(get("/rest/a%2fb")).await;
    assert_eq!(status(&head), 400);
    assert_eq!(edge.network.dialled(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_4_an_ambiguous_path_is_400_and_no_backend_is_called() {
    let edge = Edge::new(Config::new(), [route("all", &["b"])]);
    for target in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..\\admin",
        "/a%zz",
        "//admin",
        "/a;b",
        "/%00",
        "/%252e%252e/",
        "http://shop.example/a/../b",
        "*",
    ] {
        let mut client = edge.open();
        let (head, body) = client.exchange(get(target)).await;
        assert_eq!(status(&head), 400, "{target}");
        if field(&head, "content-type").is_some() {
            assert!(body.contains(r#""kind":"bad-request""#), "{body}");
        }
        assert_eq!(client.read_to_end().await, "", "{target} left the connection open");
    }
    assert_eq!(edge.network.dialled(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_5_case_port_and_dot_of_the_host_do_not_matter() {
    let edge = Edge::new(Config::new(), [route("shop", &["b"]).host("shop.example")]);
    let mut backend = edge.network.listen("b");
    for host in ["shop.example", "SHOP.example.", "shop.example:8080"] {
        let mut client = edge.open();
        client.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        let (_, head) = backend.serve_one().await;
        assert_eq!(field(&head, "host"), Some("b"));
        assert_eq!(field(&head, "x-forwarded-host"), Some(host));
        assert_eq!(status(&client.answer().await.0), 200);
    }
    let (head, _) = edge.open().exchange("GET / HTTP/1.1\r\nHost: other\r\n\r\n").await;
    assert_eq!(status(&head), 404);
}

#[tokio::test(start_paused = true)]
async fn edge_2_6_an_absolute_target_wins_over_host_and_there_is_exactly_one_host() {
    let edge = Edge::new(Config::new(), [route("a", &["b"]).host("a.example")]);
    let mut backend = edge.network.listen("b");
    let mut client = edge.open();
    client.write("GET http://a.example/x HTTP/1.1\r\nHost: evil\r\n\r\n").await;
    let (_connection, head) = backend.serve_one().await;
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some("b"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("a.example"));
    assert_eq!(status(&client.answer().await.0), 200);

    for (request, expected) in [
        ("GET http://evil/x HTTP/1.1\r\nHost: a.example\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", 400),
        ("GET http://a.example/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n", 400),
        ("GET http://u:p@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example, b\r\n\r\n", 400),
        // Only HTTP/1.0 may have none, and then no route with a host matches.
        ("GET / HTTP/1.0\r\n\r\n", 404),
    ] {
        let (head, _) = edge.open().exchange(request).await;
        assert_eq!(status(&head), expected, "{request}");
    }
    assert_eq!(edge.network.dialled(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_7_strip_and_the_path_of_the_backend_join_with_one_slash() {
    let api = |url: &str| {
        Route::new("api")
            .prefix("/api/v1")
            .strip("/api")
            .to(Upstream::fixed([url]).unwrap())
            .public()
    };
    let cases = [
        ("/api/v1", "http://b", "/v1"),
        ("/api/v1/x?y", "http://b/", "/v1/x?y"),
        ("/%61pi/v1/%41", "http://b/base", "/base/v1/%41"),
        ("/api/v1/", "http://b/base/", "/base/v1/"),
    ];
    for (target, url, expected) in cases {
        assert_eq!(seen(target, api(url)).await, format!("GET {expected} HTTP/1.1"));
    }
    let whole = |url: &str| {
        let upstream = Upstream::fixed([url]).unwrap();
        Route::new("a").prefix("/a").strip("/a").to(upstream).public()
    };
    for (target, url, expected) in [
        ("/a", "http://b", "/"),
        ("/a?x", "http://b", "/?x"),
        ("/a/", "http://b", "/"),
        ("/a", "http://b/base", "/base/"),
    ] {
        assert_eq!(seen(target, whole(url)).await, format!("GET {expected} HTTP/1.1"));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_8_connect_and_trace_are_405() {
    let edge = Edge::new(Config::new(), [route("all", &["b"])]);
    for request in
        ["CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: b\r\n\r\n"]
    {
        let (head, _) = edge.open().exchange(request).await;
        assert_eq!(status(&head), 405);
        assert_eq!(field(&head, "allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    assert_eq!(edge.network.dialled(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_method_is_405_with_the_methods_of_the_route() {
    let routes = [route("a", &["b"]).prefix("/a").methods([Method::GET, Method::PUT])];
    let edge = Edge::new(Config::new(), routes);
    let (head, body) = edge.open().exchange("DELETE /a/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((status(&head), field(&head, "allow")), (405, Some("GET, PUT")));
    assert!(body.contains(r#""status":405"#), "{body}");
}
