//! Routes with a mirror.

use std::time::Duration;

use buttress::{Clock, shadow};
use buttress_http::context::Trust;
use http::Request;

use super::{POST, ask, backend, get, route, upstream, with};
use crate::tests::support::Edge;
use crate::{Admission, Body, Config, Route, RouteShadow};

/// A route to `primary` with the mirror `mirror`, and its handle.
fn mirrored() -> (Route, shadow::Handle) {
    let config = shadow::Config::new().share(1.0).keep_one_in(1);
    // The two backends answer with their names.
    let shadow = RouteShadow::new(upstream("mirror"), config).unwrap().max_compared_body(0);
    let handle = shadow.handle();
    (route("orders", &["primary"]).shadow(shadow), handle)
}

pub(super) async fn idle(handle: &shadow::Handle) {
    while handle.stats().running > 0 {
        // The clock moves only while all tasks wait.
        Clock::default().sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_the_client_gets_the_answer_of_the_primary_and_the_status_is_compared() {
    for (status, same, different) in [(200, 1, 0), (500, 0, 1)] {
        let (route, handle) = mirrored();
        let edge = Edge::new(Config::new(), [route]);
        let primary = backend(&edge.network, "primary", 200);
        let mirror = backend(&edge.network, "mirror", status);
        assert_eq!(ask(&edge, &get("/a?b")).await, (200, "primary".into()));
        idle(&handle).await;
        let stats = handle.stats();
        assert_eq!((stats.same, stats.different), (same, different));
        assert!(mirror.last().starts_with("get /a?b http/1.1\r\n"), "{}", mirror.last());
        assert!(mirror.last().contains("x-shadow: 1\r\n"), "{}", mirror.last());
        assert!(!primary.last().contains("x-shadow"), "{}", primary.last());
        assert_eq!(edge.proxy.stats()[0].1.begun, 1, "a copy is not a request of the route");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_mirror_that_hangs_or_cannot_be_reached_costs_the_client_no_time() {
    for is_there in [true, false] {
        let (route, handle) = mirrored();
        let edge = Edge::new(Config::new(), [route]);
        let _primary = backend(&edge.network, "primary", 200);
        let _mirror = is_there.then(|| edge.network.listen("mirror"));
        let start = Clock::default().now();
        for _ in 0..5 {
            assert_eq!(ask(&edge, &get("/")).await.0, 200);
        }
        assert_eq!(Clock::default().now() - start, Duration::ZERO);
        idle(&handle).await;
        let stats = handle.stats();
        // Regression: a mirror without an answer was incomparable, so `different` stayed 0.
        let silent = stats.different + stats.timed_out;
        let expected = if is_there { (0, stats.different, 5) } else { (0, 5, 5) };
        assert_eq!((stats.same, stats.different, silent), expected, "{is_there}: {stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_8_what_is_not_safe_or_was_not_sent_is_not_copied() {
    let (route, handle) = mirrored();
    let edge = Edge::new(Config::new(), [route]);
    let mirror = backend(&edge.network, "mirror", 200);
    assert_eq!(ask(&edge, &get("/")).await.0, 502, "the primary cannot be reached");
    let _primary = backend(&edge.network, "primary", 200);
    let delete = "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n";
    let get_with_body = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na";
    for request in [POST, delete, get_with_body] {
        assert_eq!(ask(&edge, request).await.0, 200, "{request}");
    }
    idle(&handle).await;
    assert_eq!(mirror.count(), 0);
}

/// Regression: a client could mark its own requests, and a service that believes the mark does not bill them.
#[tokio::test(start_paused = true)]
async fn edge_2_9_only_the_proxy_and_a_trusted_peer_mark_a_request_as_a_copy() {
    let trusted = || Trust::networks(["192.0.2.0/24"]).unwrap();
    for (trust, field, arrives) in [
        (Trust::None, "X-Shadow: 1", false),
        (Trust::None, "X_Shadow: 1", false),
        (trusted(), "X-Shadow: 1", true),
        (trusted(), "X_Shadow: 1", false),
    ] {
        let edge = Edge::new(Config::new().trust(trust), [route("orders", &["primary"])]);
        let primary = backend(&edge.network, "primary", 200);
        assert_eq!(ask(&edge, &with(field)).await.0, 200);
        let head = primary.last();
        assert_eq!(head.contains("shadow"), arrives, "{field}: {head}");
    }
}

/// Regression: the mirror got the cookies of sessions, and API keys that no admission names.
#[tokio::test(start_paused = true)]
async fn edge_2_34_a_copy_has_credentials_only_if_the_mirror_may_see_them() {
    let cookies = ["Cookie: session=s3cret", "X-Api-Key: s3cret", "X_Api.Key: s3cret"];
    for (of_route, to_mirror) in [(true, false), (true, true), (false, false), (false, true)] {
        let config = shadow::Config::new().share(1.0);
        let shadow = RouteShadow::new(upstream("mirror"), config).unwrap();
        let shadow = if to_mirror { shadow.forward_credentials() } else { shadow };
        let handle = shadow.handle();
        // A session of cookies: the admission names no field.
        let admit = |request: Request<Body>| Admission::Now(Ok(request));
        let route = Route::new("orders").to(upstream("primary")).shadow(shadow).admit(admit);
        let route = if of_route { route.forward_credentials() } else { route };
        let edge = Edge::new(Config::new(), [route]);
        let primary = backend(&edge.network, "primary", 200);
        let mirror = backend(&edge.network, "mirror", 200);
        for field in ["Authorization: Bearer s3cret"].into_iter().chain(cookies) {
            assert_eq!(ask(&edge, &with(&format!("{field}\r\nX-Other: 7"))).await.0, 200);
            idle(&handle).await;
            let gets = |seen: &super::Seen| seen.last().contains("s3cret");
            let arrives = of_route || !field.starts_with("Auth");
            assert_eq!(gets(&primary), arrives, "{of_route} {field}");
            assert_eq!(gets(&mirror), arrives && to_mirror, "{of_route} {to_mirror} {field}");
            assert!(mirror.last().contains("x-other: 7"));
        }
        assert_eq!((primary.count(), mirror.count()), (4, 4));
    }
}
