//! The comparison of a mirror's answers.

mod ends;
mod http2;

use std::time::Duration;

use buttress::shadow;

use super::mirror::idle;
use super::{route, upstream};
use crate::tests::log;
use crate::tests::support::{Edge, Network};
use crate::{Config, Proxy, RouteShadow, ShadowMismatches};

/// Answers each request at `authority` with these bytes. Closes the connection after them if the answer has no length
/// or breaks off.
pub(super) fn answers(network: &Network, authority: &str, answer: &str) {
    let (mut backend, answer) = (network.listen(authority), answer.to_owned());
    let sent = answer.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
    let closes = match answer.split_once("content-length: ") {
        Some((_, rest)) => sent < rest.split("\r\n").next().unwrap().parse().unwrap(),
        None => !answer.contains("chunked") || !answer.ends_with("\r\n\r\n"),
    };
    tokio::spawn(async move {
        loop {
            let (mut connection, answer) = (backend.accept().await, answer.clone());
            tokio::spawn(async move {
                while connection.try_read_head().await {
                    if !connection.try_write(&answer).await || closes {
                        return;
                    }
                }
            });
        }
    });
}

/// A proxy whose route compares every answer with one of `mirror`.
pub(super) fn compared(set: impl FnOnce(RouteShadow) -> RouteShadow) -> (Edge, RouteShadow) {
    // Below the limit of the proxy for heads.
    let within = Duration::from_secs(5);
    let config = shadow::Config::new().share(1.0).keep_one_in(1).within(within);
    let shadow = set(RouteShadow::new(upstream("mirror"), config).unwrap());
    let route = route("orders", &["primary"]).shadow(shadow.clone());
    (Edge::new(Config::new(), [route]), shadow)
}

/// Returns how the one mirrored call ended, and what differed.
pub(super) fn end(shadow: &RouteShadow) -> (&'static str, &'static str) {
    let (stats, kinds) = (shadow.handle().stats(), shadow.mismatches());
    let ends = [
        ("same", stats.same),
        ("different", stats.different),
        ("incomparable", stats.incomparable),
        ("timed out", stats.timed_out),
        ("other", stats.not_compared + stats.panicked + stats.abandoned + stats.running),
    ];
    assert_eq!(stats.mirrored, ends.iter().map(|(_, count)| count).sum::<u64>(), "{stats:?}");
    assert_eq!((stats.mirrored, kinds.total()), (1, stats.different), "{stats:?} {kinds:?}");
    let ShadowMismatches { status, fields, body, mirror_failed, primary_failed } = kinds;
    let kinds = [
        ("status", status),
        ("fields", fields),
        ("body", body),
        ("mirror failed", mirror_failed),
        ("primary failed", primary_failed),
        ("nothing", 1),
    ];
    let first = |counts: &[(&'static str, u64)]| {
        counts.iter().find(|(_, count)| *count > 0).map(|(name, _)| *name).unwrap()
    };
    (first(&ends), first(&kinds))
}

/// Reads everything until the proxy closes the connection.
async fn ask(edge: &Edge, method: &str) -> String {
    let mut client = edge.open();
    let request = format!("{method} /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.write(request).await;
    let answer = client.read_to_end().await;
    // The listener writes the time.
    answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{fields}\r\n{body}", body.len())
}

fn chunked(body: &str) -> String {
    let chunks: String = body.chars().map(|one| format!("1\r\n{one}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// An answer with a trailer.
pub(super) fn trailed(body: &str) -> String {
    let last = "0\r\nx-end: 7\r\n\r\n";
    chunked(body).replace("0\r\n\r\n", last).replacen("\r\n", "\r\ntrailer: x-end\r\n", 1)
}

const BROKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const NOT_MODIFIED: &str = "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn edge_3_10_status_fields_and_bodies_are_compared_up_to_a_limit() {
    type Set = fn(RouteShadow) -> RouteShadow;
    let plain: Set = |shadow| shadow;
    let kind: Set = |shadow| shadow.compare_fields(["X-Kind"]);
    let four: Set = |shadow| shadow.max_compared_body(4);
    let none: Set = |shadow| shadow.max_compared_body(0);
    let error = |body: &str| ok("", body).replace("200 OK", "500 X");
    let gzip = "content-encoding: gzip\r\n";
    let coded = || chunked("abc").replace("chunked", "gzip, chunked");
    let cases: Vec<(Set, String, String, (&str, &str))> = vec![
        (plain, ok("", "abc"), ok("date: now\r\nx-kind: b\r\n", "abc"), ("same", "nothing")),
        (plain, ok("", "abc"), chunked("abc"), ("same", "nothing")),
        (plain, chunked("abc"), ok("", "abc"), ("same", "nothing")),
        (plain, trailed("abc"), trailed("abc"), ("same", "nothing")),
        (plain, trailed("abc"), ok("", "abc"), ("same", "nothing")),
        (plain, trailed("abc"), trailed("abd"), ("different", "body")),
        (plain, trailed(""), trailed(""), ("same", "nothing")),
        (four, trailed("abcde"), trailed("abcde"), ("incomparable", "nothing")),
        (plain, ok("", ""), ok("", ""), ("same", "nothing")),
        (plain, ok("", "abc"), ok("", "abd"), ("different", "body")),
        (plain, ok("", "abc"), ok("", ""), ("different", "body")),
        (plain, ok("", "abc"), error("abd"), ("different", "status")),
        (kind, ok("x-kind: a\r\n", "a"), ok("x-kind: a\r\n", "a"), ("same", "nothing")),
        (kind, ok("x-kind: a\r\n", "a"), ok("x-kind: b\r\n", "b"), ("different", "fields")),
        (kind, ok("x-kind: a\r\n", "a"), error("a"), ("different", "status")),
        // The limit, and one byte more, with and without an announced length.
        (four, ok("", "abcd"), ok("", "abcd"), ("same", "nothing")),
        (four, ok("", "abcd"), chunked("abce"), ("different", "body")),
        (four, ok("", "abcde"), ok("", "abcde"), ("incomparable", "nothing")),
        (four, chunked("abcde"), chunked("abcdf"), ("incomparable", "nothing")),
        (four, ok("", "abcde"), ok("", "abcd"), ("different", "body")),
        (four, ok("", "abcd"), chunked("abcde"), ("different", "body")),
        (none, ok("", "abc"), ok("", "abd"), ("same", "nothing")),
        (none, ok("", "abc"), error("abc"), ("different", "status")),
        (none, ok("", "abc"), BROKEN.into(), ("incomparable", "nothing")),
        (plain, ok("", "abc"), BROKEN.into(), ("incomparable", "nothing")),
        (plain, error("abc"), BROKEN.into(), ("different", "status")),
        (plain, BROKEN.into(), ok("", "abcdefghi"), ("incomparable", "nothing")),
        // Equal content can be coded in several ways.
        (plain, ok(gzip, "abc"), ok(gzip, "abc"), ("same", "nothing")),
        (plain, ok(gzip, "abc"), ok(gzip, "abd"), ("incomparable", "nothing")),
        (plain, ok(gzip, "abc"), ok("", "abc"), ("incomparable", "nothing")),
        (plain, NO_CONTENT.into(), NO_CONTENT.into(), ("same", "nothing")),
        (plain, NO_CONTENT.into(), ok("", ""), ("different", "status")),
        (plain, NOT_MODIFIED.into(), NOT_MODIFIED.into(), ("same", "nothing")),
        // The proxy passes no such answer on.
        (plain, ok("", "abc"), coded(), ("different", "mirror failed")),
        (plain, coded(), ok("", "abc"), ("different", "primary failed")),
        (plain, coded(), coded(), ("same", "nothing")),
        // Neither is an answer.
        (plain, ok("", "abc"), "HTTP/1.1 20".into(), ("different", "mirror failed")),
        (plain, ok("", "abc"), "nonsense\r\n\r\n".into(), ("different", "mirror failed")),
        (plain, "HTTP/1.1 20".into(), ok("", "abc"), ("different", "primary failed")),
        (plain, "HTTP/1.1 20".into(), "nonsense\r\n\r\n".into(), ("same", "nothing")),
    ];
    for (set, primary, mirror, expected) in cases {
        let (edge, shadow) = compared(set);
        answers(&edge.network, "primary", &primary);
        answers(&edge.network, "mirror", &mirror);
        ask(&edge, "GET").await;
        idle(&shadow.handle()).await;
        assert_eq!(end(&shadow), expected, "{primary}\nand\n{mirror}");
        let mismatches = edge.proxy.handle().shadow_mismatches("orders").unwrap();
        assert_eq!(mismatches, shadow.mismatches());
        assert!(edge.proxy.handle().shadow_mismatches("other").is_none());
    }
    // An answer to HEAD has no body, whatever its fields say.
    for (fields, expected) in
        [("", ("same", "nothing")), ("x-kind: b\r\n", ("different", "fields"))]
    {
        let (edge, shadow) = compared(kind);
        let head = |length, fields: &str| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{fields}\r\n")
        };
        answers_heads(&edge.network, "primary", head(3, ""));
        answers_heads(&edge.network, "mirror", head(4, fields));
        ask(&edge, "HEAD").await;
        idle(&shadow.handle()).await;
        assert_eq!(end(&shadow), expected);
    }
}

/// Answers each request with a head.
fn answers_heads(network: &Network, authority: &str, head: String) {
    let mut backend = network.listen(authority);
    tokio::spawn(async move {
        let mut connection = backend.accept().await;
        while connection.try_read_head().await {
            connection.write(&head).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_compared_answer_reaches_the_client_byte_for_byte() {
    let trailer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                   3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nabcdef";
    let long = ok("", &"x".repeat(300_000));
    for primary in [
        &ok("x-kind: a\r\n", "abc"),
        &chunked("abc"),
        trailer,
        until_close,
        BROKEN,
        &long,
        NO_CONTENT,
    ] {
        let plain = Edge::new(Config::new(), [route("orders", &["primary"])]);
        answers(&plain.network, "primary", primary);
        let expected = ask(&plain, "GET").await;
        for limit in [0, 2, 3, 1 << 20] {
            let (edge, shadow) = compared(|shadow| shadow.max_compared_body(limit));
            answers(&edge.network, "primary", primary);
            answers(&edge.network, "mirror", primary);
            assert_eq!(ask(&edge, "GET").await, expected, "{limit}: {primary}");
            idle(&shadow.handle()).await;
            assert_eq!(shadow.mismatches().total(), 0, "{limit}: {primary}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mismatch_is_logged_without_values_bodies_tokens_and_addresses() {
    let secret = "s3cret";
    let with = |value: &str, body: &str| ok(&format!("set-cookie: {value}\r\n"), body);
    for (mirror, expected) in [
        (with(secret, "b"), "the field set-cookie differs"),
        (with("a", secret), "the body differs"),
        (with("a", secret).replace("200 OK", "500 s3cret"), "the status is 500 and not 200"),
        (format!("{secret}\r\n\r\n"), "the mirror failed: http_protocol_error"),
    ] {
        let (edge, shadow) = compared(|shadow| shadow.compare_fields(["set-cookie"]));
        answers(&edge.network, "primary", &with("a", "b"));
        answers(&edge.network, "mirror", &mirror);
        // The line is known to `tracing` then: a test of another thread could make it known without a subscriber.
        ask(&edge, "GET").await;
        idle(&shadow.handle()).await;
        let log = log::begin();
        ask(&edge, "GET").await;
        idle(&shadow.handle()).await;
        let text = log.text();
        let what: Vec<&str> = text.lines().filter(|line| line.starts_with("what=")).collect();
        assert_eq!(what, [format!("what={expected:?}")], "{text}");
        assert!(!text.contains(secret), "{text}");
        assert!(!format!("{shadow:?}").contains(secret));
    }
}

#[test]
fn a_comparison_out_of_its_bounds_is_refused_with_field_value_and_bound() {
    let check = |set: &dyn Fn(RouteShadow) -> RouteShadow| {
        let shadow = RouteShadow::new(upstream("m"), shadow::Config::new()).unwrap();
        Proxy::new(Config::new(), [route("orders", &["b"]).shadow(set(shadow))]).map(drop)
    };
    let names = |count: usize| (0..count).map(|number| format!("x-{number}")).collect::<Vec<_>>();
    check(&|shadow| shadow.max_compared_body(0)).unwrap();
    check(&|shadow| shadow.max_compared_body(1 << 30)).unwrap();
    check(&|shadow| shadow.compare_fields(names(32))).unwrap();
    check(&|shadow| shadow.compare_fields(["ETag", "content-length", "Set-Cookie"])).unwrap();
    let error = check(&|shadow| shadow.max_compared_body((1 << 30) + 1)).unwrap_err();
    assert_eq!(error.field(), "routes.orders.shadow.max-compared-body");
    assert_eq!((error.value(), error.bound()), ("1073741825", "from 0 to 1073741824 bytes"));
    let error = check(&|shadow| shadow.compare_fields(names(33))).unwrap_err();
    assert_eq!(error.field(), "routes.orders.shadow.compare-fields");
    assert_eq!((error.value(), error.bound()), ("33 fields", "at most 32 fields"));
    // Edge 3.10: these differ between equal answers.
    for name in [
        "",
        "a b",
        "Date",
        "via",
        "Keep-Alive",
        "connection",
        "proxy-x",
        "X-Request-Id",
        "traceparent",
    ] {
        let error = check(&|shadow| shadow.compare_fields(["etag", name])).unwrap_err();
        assert_eq!(error.field(), "routes.orders.shadow.compare-fields");
        assert_eq!(error.value(), format!("{name:?}"));
    }
}

/// Regression: the shadow of such a route copied nothing, and said nothing.
#[test]
fn edge_3_8_a_shadow_of_a_route_without_a_copied_method_is_refused() {
    use http::Method;

    for (methods, is_fine) in [
        (vec![Method::POST], false),
        (vec![Method::POST, Method::DELETE], false),
        (vec![Method::POST, Method::HEAD], true),
        (vec![Method::OPTIONS], true),
    ] {
        let shadow = RouteShadow::new(upstream("m"), shadow::Config::new()).unwrap();
        let route = route("orders", &["b"]).shadow(shadow).methods(methods.clone());
        match Proxy::new(Config::new(), [route]) {
            Ok(_) => assert!(is_fine, "{methods:?}"),
            Err(error) => {
                assert!(!is_fine, "{methods:?}: {error}");
                assert_eq!(error.field(), "routes.orders.shadow");
                assert!(error.value().contains("POST"), "{error}");
            }
        }
    }
}

/// Regression: a route with an empty list served every method.
#[test]
fn edge_2_1_an_empty_list_of_methods_is_refused() {
    let error = Proxy::new(Config::new(), [route("orders", &["b"]).methods([])]).unwrap_err();
    assert_eq!((error.field(), error.value()), ("routes.orders.methods", "no method"));
}
