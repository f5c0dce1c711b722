//! Who is admitted, and what a backend gets to know of a caller.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::context::Context;
use buttress::rate_limit::{self, KeyedRateLimitLayer, RateLimitLayer};
use buttress_http::client_key::AddressKeys;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method, Request};

use super::support::{Backend, Edge, field, get, route, status};
use crate::{
    Admission, Admit, Body, ClientKey, Config, Denied, DeniedKind, Proxy, RefusedStats, Route,
    RouteStats, Subject, Upstream,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Admits the callers that an API key names.
struct Keys;

impl Admit for Keys {
    fn admit(&self, mut request: Request<Body>) -> Admission {
        let key = request.headers().get("x-api-key").map(HeaderValue::as_bytes);
        Admission::Now(match key {
            Some(b"blocked") => Err(Denied::forbidden()),
            Some(b"away") => Err(Denied::unavailable()),
            Some(key) => {
                let subject = Subject::new(std::str::from_utf8(key).unwrap()).unwrap();
                request.extensions_mut().insert(subject);
                Ok(request)
            }
            None => Err(Denied::unauthenticated(HeaderValue::from_static("ApiKey"))),
        })
    }

    fn credentials(&self) -> Vec<HeaderName> {
        vec![HeaderName::from_static("x-api-key")]
    }
}

fn keyed(name: &str) -> Route {
    Route::new(name).to(Upstream::fixed(["http://b"]).unwrap()).admit(Keys)
}

fn edge(routes: impl IntoIterator<Item = Route>) -> (Edge, Backend) {
    let edge = Edge::new(Config::new(), routes);
    let backend = edge.network.listen("b");
    (edge, backend)
}

fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn key(key: &str) -> String {
    with(&format!("X-Api-Key: {key}\r\n"))
}

/// Sends a request that the backend answers with 200, and returns the head that the backend got.
async fn pass(edge: &Edge, backend: &mut Backend, request: &str) -> String {
    let mut client = edge.open();
    client.write(request).await;
    let (_connection, head) = backend.serve_one().await;
    assert_eq!(status(&client.answer().await.0), 200, "{request}");
    head
}

#[tokio::test(start_paused = true)]
async fn edge_2_39_denials_are_401_403_and_503_and_spend_no_token() {
    let limiter = RateLimitLayer::new(rate_limit::Config::new()).unwrap().handle();
    let before = limiter.available();
    let (edge, mut backend) = edge([keyed("all").rate_limit(limiter.clone())]);
    for (request, expected, kind) in [
        (get("/"), 401, "unauthenticated"),
        (key("blocked"), 403, "forbidden"),
        (key("away"), 503, "auth-unavailable"),
    ] {
        let (head, body) = edge.open().exchange(request).await;
        assert_eq!(status(&head), expected);
        assert_eq!(field(&head, "content-type"), Some("application/problem+json"));
        assert!(body.contains(&format!(r#""kind":"{kind}""#)), "{body}");
        assert!(field(&head, "proxy-status").is_some());
        let challenge = (expected == 401).then_some("ApiKey");
        assert_eq!(field(&head, "www-authenticate"), challenge);
        assert_eq!(field(&head, "retry-after"), (expected == 503).then_some("1"));
    }
    assert_eq!(limiter.available(), before);
    pass(&edge, &mut backend, &key("customer-7")).await;
    assert_eq!(limiter.available(), before - 1);
    let refused = RefusedStats {
        unauthenticated: 1,
        forbidden: 1,
        auth_unavailable: 1,
        ..RefusedStats::default()
    };
    let expected = RouteStats { begun: 4, answered: 1, refused, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);
}

#[tokio::test(start_paused = true)]
async fn a_denial_of_grpc_is_a_status() {
    let (edge, _backend) = edge([keyed("all")]);
    for (field_of_key, code) in
        [("", "16"), ("X-Api-Key: blocked\r\n", "7"), ("X-Api-Key: away\r\n", "14")]
    {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n{field_of_key}Content-Length: 0\r\n\r\n"
        );
        let (head, body) = edge.open().exchange(request).await;
        assert_eq!((status(&head), field(&head, "grpc-status"), &*body), (200, Some(code), ""));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_an_admission_is_passed_and_a_401_always_has_a_challenge() {
    let deny = |request: Request<Body>| {
        let mut response = http::Response::new(Body::from("log in"));
        *response.status_mut() =
            http::StatusCode::from_bytes(request.headers()["x-status"].as_bytes()).unwrap();
        Admission::later(async { Err(Denied { kind: DeniedKind::Unauthenticated, response }) })
    };
    let route = Route::new("all").to(Upstream::fixed(["http://b"]).unwrap()).admit(deny);
    let (edge, _backend) = edge([route]);
    for (code, challenge) in [(302, None), (401, Some("Bearer"))] {
        let (head, body) = edge.open().exchange(with(&format!("X-Status: {code}\r\n"))).await;
        assert_eq!((status(&head), &*body), (code, "log in"));
        assert_eq!(field(&head, "www-authenticate"), challenge);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_34_every_route_drops_the_identity_of_every_route_in_every_spelling() {
    let open = route("open", &["b"]).prefix("/open");
    let (edge, mut backend) = edge([keyed("all").forward_identity("X-User"), open]);
    for target in ["/", "/open"] {
        for name in ["x-user", "X-USER", "x_user", "X_User", "X.User", "X~User", "x!user"] {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nX-Api-Key: me\r\nConnection: x-user\r\n{name}: root\r\n\r\n"
            );
            let head = pass(&edge, &mut backend, &request).await;
            assert!(!head.contains("root"), "{head}");
            assert_eq!(field(&head, "x-user"), (target == "/").then_some("me"), "{head}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_34_trailers_cannot_name_the_caller() {
    let (edge, mut backend) = edge([keyed("all").forward_identity("X-User")]);
    let mut client = edge.open();
    let names = "x-user, x.user, x-api-key, x-forwarded-for, authorization, connection, x-sum";
    let trailers: String = names.split(", ").map(|name| format!("{name}: root\r\n")).collect();
    client
        .write(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Api-Key: me\r\nTrailer: {names}\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n"
        ))
        .await;
    let (mut connection, head) = backend.accept_request().await;
    assert_eq!(field(&head, "x-user"), Some("me"));
    let body = connection.read_head().await;
    assert_eq!(body, "2\r\nhi\r\n0\r\nx-sum: root\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn edge_2_34_credentials_stay_in_the_proxy_unless_the_route_forwards_them() {
    let open = route("open", &["b"]).prefix("/open");
    let forwarding = keyed("forwarding").prefix("/forwarding").forward_credentials();
    let (edge, mut backend) = edge([keyed("all"), open, forwarding]);
    for target in ["/", "/open", "/forwarding"] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nX-Api-Key: me\r\nAuthorization: Bearer x\r\n\r\n"
        );
        let head = pass(&edge, &mut backend, &request).await;
        let forwards = target == "/forwarding";
        assert_eq!(field(&head, "authorization"), forwards.then_some("Bearer x"));
        assert_eq!(field(&head, "x-api-key"), forwards.then_some("me"));
        assert_eq!(field(&head, "x-user"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_40_an_admitted_client_is_its_subject_and_another_one_its_address() {
    let tokens = rate_limit::Config::new().max_tokens(1).refill(1, MINUTE);
    let limit = KeyedRateLimitLayer::new(tokens, 100, ClientKey::clone).unwrap().handle();
    let anonymous = |request: Request<Body>| Admission::Now(Ok(request));
    let routes = [
        keyed("keyed").per_client(limit.clone(), AddressKeys::new()),
        Route::new("anonymous")
            .prefix("/anonymous")
            .to(Upstream::fixed(["http://b"]).unwrap())
            .admit(anonymous)
            .per_client(limit, AddressKeys::new()),
    ];
    let (mut edge, mut backend) = edge(routes);
    pass(&edge, &mut backend, &key("one")).await;
    pass(&edge, &mut backend, &key("two")).await;
    pass(&edge, &mut backend, &get("/anonymous")).await;
    // Another address does not help the first client.
    edge.peer = Some([192, 0, 2, 99].into());
    for (request, expected) in [(key("one"), 429), (key("two"), 429), (get("/x"), 401)] {
        assert_eq!(status(&edge.open().exchange(request).await.0), expected);
    }
    pass(&edge, &mut backend, &get("/anonymous")).await;
    assert_eq!(status(&edge.open().exchange(get("/anonymous")).await.0), 429);
}

#[tokio::test(start_paused = true)]
async fn the_subject_is_the_identity_of_the_context_and_only_an_admission_sets_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&seen);
    let limiter = rate_limit::Config::new().max_tokens(1).refill(1, MINUTE).observer(
        move |_: buttress::Name, _: &buttress::Event| {
            let identity = Context::peek(|context| context.identity().map(str::to_owned));
            observed.lock().unwrap().push(identity);
        },
    );
    let limiter = RateLimitLayer::new(limiter).unwrap().handle();
    let open = route("open", &["b"]).prefix("/open").rate_limit(limiter.clone());
    let anonymous = |request: Request<Body>| Admission::Now(Ok(request));
    let anonymous = Route::new("anonymous")
        .prefix("/anonymous")
        .to(Upstream::fixed(["http://b"]).unwrap())
        .admit(anonymous)
        .rate_limit(limiter.clone());
    let (edge, _backend) = edge([keyed("all").rate_limit(limiter.clone()), open, anonymous]);
    limiter.try_acquire(1).unwrap();
    for target in ["/", "/open", "/anonymous"] {
        let mut proxy = edge.proxy.clone();
        let mut request = Request::get(target).header("host", "a").header("x-api-key", "me");
        request = request.extension(Subject::new("root").unwrap());
        let request = request.body(Body::empty()).unwrap();
        drop(tower::Service::call(&mut proxy, request).await);
    }
    assert_eq!(*seen.lock().unwrap(), [Some(String::from("me")), None, None]);
}

#[tokio::test(start_paused = true)]
async fn an_admission_can_replace_fields_and_body_and_not_the_target() {
    let sign = |request: Request<Body>| {
        let (mut head, _) = request.into_parts();
        head.uri = "/../admin".parse().unwrap();
        head.method = Method::DELETE;
        head.headers.insert("x-tenant", HeaderValue::from_static("7"));
        head.headers.insert("content-length", HeaderValue::from_static("6"));
        head.headers.remove(AUTHORIZATION);
        Admission::later(async { Ok(Request::from_parts(head, Body::from("signed"))) })
    };
    let route = Route::new("all").to(Upstream::fixed(["http://b"]).unwrap()).admit(sign);
    let (edge, mut backend) = edge([route]);
    let mut client = edge.open();
    client.write("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
    let (mut connection, head) = backend.accept_request().await;
    assert!(head.starts_with("PUT /a HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "x-tenant"), Some("7"));
    assert_eq!(connection.read_until("signed").await, "signed");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_credentials_are_checked_is_abandoned() {
    let never = |_: Request<Body>| Admission::later(std::future::pending());
    let route = Route::new("all").to(Upstream::fixed(["http://b"]).unwrap()).admit(never);
    let (edge, _backend) = edge([route]);
    let mut client = edge.open();
    client.write(get("/")).await;
    while edge.proxy.stats()[0].1.in_flight == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while edge.proxy.stats()[0].1.in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(edge.proxy.stats()[0].1.abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_route_says_exactly_once_who_is_admitted_and_no_identity_in_a_field_of_the_proxy() {
    let upstream = || Upstream::fixed(["http://b"]).unwrap();
    let refused = |route: Route| {
        let error = Proxy::new(Config::new(), [route.to(upstream())]).unwrap_err();
        error.field().to_owned()
    };
    assert_eq!(refused(Route::new("a")), "routes.a.admit");
    assert_eq!(refused(Route::new("a").admit(Keys).public()), "routes.a.admit");
    let identity = "routes.a.forward-identity";
    assert_eq!(refused(Route::new("a").public().forward_identity("x-user")), identity);
    for name in ["", "x user", "Host", "x_forwarded-for", "Proxy-User", "authorization", "te"] {
        assert_eq!(refused(Route::new("a").admit(Keys).forward_identity(name)), identity, "{name}");
    }
}
