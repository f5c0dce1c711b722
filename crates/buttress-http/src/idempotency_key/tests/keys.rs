//! Keys: the requests that the layer protects, and those that it refuses.

use std::time::Duration;

use buttress::ErrorKind;
use buttress::idempotency::MemoryStore;

use super::*;
use crate::Refusal;

#[tokio::test(start_paused = true)]
async fn safe_methods_and_all_others_pass_untouched_whatever_their_key() {
    let (layer, inner) =
        (with(IdempotencyKeyLayer::config().key_required(true)), Inner::counting(200));
    let methods =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
    let mut sent = 0;
    for method in methods {
        for key in ["\"same\"", "no key at all,", ""] {
            sent += 1;
            let got = send(&layer, &inner, asking(method.clone(), "/", key, "".into())).await;
            assert_eq!(
                got.brief(),
                (200, format!("call {sent}").as_str(), false),
                "{method} {key}"
            );
        }
    }
    assert_eq!(inner.calls(), sent);
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.refused), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_methods_can_be_chosen() {
    let (layer, inner) = (layer().methods([Method::PUT]), Inner::counting(200));
    for (method, replayed) in [(Method::PUT, true), (Method::POST, false), (Method::PATCH, false)] {
        for expected in [false, replayed] {
            let got = send(&layer, &inner, asking(method.clone(), "/", "a", "".into())).await;
            assert_eq!(got.replayed(), expected, "{method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_passes_or_is_refused_as_configured() {
    let without = || Request::post("/pay").body(Script::from("7")).unwrap();
    let inner = Inner::counting(200);
    for n in ["call 1", "call 2"] {
        assert_eq!(send(&layer(), &inner, without()).await.brief(), (200, n, false));
    }
    let layer = with(IdempotencyKeyLayer::config().key_required(true));
    send(&layer, &inner, without()).await.is_problem(400, "key-missing");
    assert_eq!(inner.calls(), 2);
    assert_eq!(layer.handle().stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_key_is_answered_400_and_the_body_is_not_read() {
    let (layer, inner) = (layer(), Inner::counting(200));
    for key in ["", "\"", "\"a\" b", "a,b", "\"caf\u{e9}\"", "\"\"", &"k".repeat(256)] {
        let body = Script::new([Step::Error("the body was read")]);
        let got = send(&layer, &inner, asking(Method::POST, "/", key, body)).await;
        got.is_problem(400, "key-invalid");
        assert!(got.body.contains("the Idempotency-Key is malformed"), "{got:?}");
    }
    let mut twice = post("a", "7");
    twice.headers_mut().append(IDEMPOTENCY_KEY, "a".parse().unwrap());
    let got = send(&layer, &inner, twice).await;
    got.is_problem(400, "key-invalid");
    assert!(got.body.contains("more than once"), "{got:?}");
    assert_eq!(inner.calls(), 0);

    assert_eq!(send(&layer, &inner, post(&"k".repeat(255), "7")).await.status, 200);
    assert_eq!(send(&layer.clone().longest_key(3), &inner, post("abc", "7")).await.status, 200);
    let got = send(&layer.longest_key(3), &inner, post("abcd", "7")).await;
    assert!(got.body.contains("the key has 4 bytes, at most 3 are allowed"), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn quotes_make_no_difference_unless_they_are_asked_for() {
    let (layer, inner) = (layer(), Inner::counting(200));
    assert_eq!(send(&layer, &inner, post("abc", "7")).await.brief(), (200, "call 1", false));
    assert_eq!(send(&layer, &inner, post("\"abc\"", "7")).await.brief(), (200, "call 1", true));
    assert_eq!(send(&layer, &inner, post("\"abc\";v=1", "7")).await.brief(), (200, "call 1", true));
    let strict = layer.strict();
    send(&strict, &inner, post("abc", "7")).await.is_problem(400, "key-invalid");
    assert_eq!(send(&strict, &inner, post("\"abc\"", "7")).await.brief(), (200, "call 1", true));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_for_another_request_is_answered_422() {
    let (layer, inner) = (layer(), Inner::counting(200));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.status, 200);
    let others = [
        post("a", "8"),
        post("a", ""),
        asking(Method::PATCH, "/pay", "a", "7".into()),
        asking(Method::POST, "/refund", "a", "7".into()),
        asking(Method::POST, "/pay?twice", "a", "7".into()),
    ];
    for other in others {
        send(&layer, &inner, other).await.is_problem(422, "key-reused");
    }
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 1", true));
    assert_eq!(layer.handle().stats().mismatched, 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_flight_is_answered_409_with_a_short_hint() {
    let (layer, inner) = (layer(), Inner::counting(200).held());
    let mut first = Box::pin(send(&layer, &inner, post("a", "7")));
    assert!(is_pending(&mut first));
    tokio::time::advance(Duration::from_millis(4500)).await;
    let got = send(&layer, &inner, post("a", "7")).await;
    got.is_problem(409, "key-in-flight");
    assert_eq!(got.headers["retry-after"], "1", "the lease has 25.5 s left");
    // The fingerprint is checked before that.
    send(&layer, &inner, post("a", "8")).await.is_problem(422, "key-reused");
    inner.open();
    assert_eq!(first.await.brief(), (200, "call 1", false));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 1", true));
    assert_eq!(inner.calls(), 1);

    let layer = with(IdempotencyKeyLayer::config().in_flight_hint(Duration::from_secs(5)));
    let inner = Inner::counting(200).held();
    let mut first = Box::pin(send(&layer, &inner, post("a", "7")));
    assert!(is_pending(&mut first));
    let got = send(&layer, &inner, post("a", "7")).await;
    assert_eq!(got.headers["retry-after"], "5");
}

/// The content of a refusal that any client can read.
#[tokio::test(start_paused = true)]
async fn no_refusal_tells_a_stranger_of_names_leases_scopes_or_keys() {
    let config = IdempotencyKeyLayer::config().name("ledger-db-7").key_required(true);
    let layer = with(config).longest_key(600);
    let inner = Inner::counting(200).held();
    let mut first = Box::pin(send(&layer, &inner, post("secret-key", "7")));
    assert!(is_pending(&mut first));
    let asked = [
        post("secret-key", "7"),
        post("secret-key", "8"),
        post(&"k".repeat(513), "7"),
        Request::post("/").body(Script::default()).unwrap(),
    ];
    for request in asked {
        let got = send(&layer, &inner, request).await;
        for inside in ["ledger", "layer", "secret-key", "lease", "store", "idempotency \\\"", "513"]
        {
            assert!(!got.body.contains(inside), "{inside}: {}", got.body);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn or_it_waits_and_all_get_the_one_response() {
    let layer = with(IdempotencyKeyLayer::config().refuse_in_flight(false));
    let inner = Inner::counting(201).held();
    let mut all: Vec<_> = (0..8).map(|_| Box::pin(send(&layer, &inner, post("a", "7")))).collect();
    assert!(all.iter_mut().all(is_pending));
    inner.open();
    let mut got = Vec::new();
    for one in all {
        got.push(one.await);
    }
    assert_eq!(got[0].brief(), (201, "call 1", false));
    assert!(got[1..].iter().all(|got| got.brief() == (201, "call 1", true)), "{got:?}");
    assert_eq!(inner.calls(), 1);
}

#[derive(Clone)]
struct User(&'static str);

#[tokio::test(start_paused = true)]
async fn nobody_gets_the_response_of_another_scope() {
    let user = |head: &http::request::Parts| head.extensions.get::<User>().unwrap().0;
    let config = IdempotencyKeyLayer::config();
    let layer = IdempotencyKeyLayer::new(config, MemoryStore::default(), user).unwrap();
    let inner = Inner::counting(200);
    let of = |user| {
        let mut request = post("a", "7");
        request.extensions_mut().insert(User(user));
        request
    };
    assert_eq!(send(&layer, &inner, of("ann")).await.brief(), (200, "call 1", false));
    assert_eq!(send(&layer, &inner, of("bob")).await.brief(), (200, "call 2", false));
    assert_eq!(send(&layer, &inner, of("ann")).await.brief(), (200, "call 1", true));
    assert_eq!(send(&layer, &inner, of("bob")).await.brief(), (200, "call 2", true));
    // A user without a name is not a user: two such users must not share a response.
    send(&layer, &inner, of("")).await.is_problem(401, "unauthenticated");
    // The core refuses an invalid scope.
    send(&layer, &inner, of("a\nb")).await.is_problem(400, "key-invalid");
}

/// Regression: two callers without a user shared one scope, so that the second got the response of
/// the first.
#[tokio::test(start_paused = true)]
async fn unknown_callers_share_nothing_unless_that_is_said() {
    let unknown = |scope: Scope| {
        let scope = move |head: &http::request::Parts| match head.extensions.get::<User>() {
            Some(User(name)) => Scope::from(*name),
            None => scope.clone(),
        };
        let config = IdempotencyKeyLayer::config();
        IdempotencyKeyLayer::new(config, MemoryStore::default(), scope).unwrap()
    };
    let inner = Inner::counting(200);
    let layer = unknown(Scope::Unauthenticated);
    let got = send(&layer, &inner, post("a", "7")).await;
    got.is_problem(401, "unauthenticated");
    assert_eq!(got.headers["www-authenticate"], "Bearer");
    let basic = http::HeaderValue::from_static("Basic");
    let layer = unknown(Scope::Unauthenticated).reject(crate::Respond.challenge(basic));
    let got = layer.layer(inner.clone()).oneshot(post("a", "7")).await.unwrap();
    assert_eq!(
        (got.status().as_u16(), &got.headers()["www-authenticate"]),
        (401, &"Basic".parse().unwrap())
    );
    send(&unknown(Scope::Unnamed), &inner, post("a", "7"))
        .await
        .is_problem(400, "principal-missing");
    assert_eq!(inner.calls(), 0);

    let layer = unknown(Scope::Unprotected);
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 1", false));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 2", false));
    assert_eq!(layer.handle().stats().store.unwrap().stored, 0);
    // A required key changes nothing, because the request has one.
    let config = IdempotencyKeyLayer::config().key_required(true);
    let layer =
        IdempotencyKeyLayer::new(config, MemoryStore::default(), |_| Scope::Unprotected).unwrap();
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 3", false));

    let layer = unknown(Scope::Shared("public"));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 4", false));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 4", true));
    // A user cannot call itself by a shared name.
    for name in ["public", "*public"] {
        let mut request = post("a", "7");
        request.extensions_mut().insert(User(name));
        assert!(!send(&layer, &inner, request).await.replayed(), "{name}");
    }
    // The layer does not ask for the scope of a request without a key.
    let layer = unknown(Scope::Unauthenticated);
    let keyless = Request::post("/pay").body(Script::default()).unwrap();
    assert_eq!(send(&layer, &inner, keyless).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stored_response_is_there_for_its_lifetime_to_the_instant() {
    let lifetime = Duration::from_secs(5);
    let (layer, inner) =
        (with(IdempotencyKeyLayer::config().result_lifetime(lifetime)), Inner::counting(200));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 1", false));
    tokio::time::advance(lifetime - Duration::from_millis(1)).await;
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (200, "call 1", true));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(send(&layer, &inner, post("a", "8")).await.brief(), (200, "call 2", false));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answered_as_they_are_told_to_be() {
    let layer = with(IdempotencyKeyLayer::config().key_required(true))
        .unusable(|request| {
            Response::builder().status(499).body(request.kind().to_owned()).unwrap()
        })
        .reject(Respond::with(|error| {
            Response::builder().status(498).body(error.kind().to_string().into()).unwrap()
        }));
    let ask = |request| layer.layer(Inner::counting(200)).oneshot(request);
    let missing = ask(Request::post("/").body(Script::default()).unwrap()).await.unwrap();
    assert_eq!(Refusal::of(&missing).unwrap().error().kind(), ErrorKind::KeyMissing);
    assert_eq!(read(missing).await.brief(), (498, "key-missing", false));
    let malformed = read(ask(post("a,", "")).await.unwrap()).await;
    assert_eq!(malformed.brief(), (499, "key-invalid", false));
}
