use std::convert::Infallible;

use buttress::circuit_breaker;
use buttress::split::{Config, Split};
use http::Response;
use tower::{BoxError, Layer, ServiceExt, service_fn};

use super::*;
use crate::HttpLayerExt;
use crate::testing::{self, refused, status};

fn asked(values: &[&str]) -> Request<()> {
    let mut request = Request::new(());
    for value in values {
        request.headers_mut().append("x-backend", value.parse().unwrap());
    }
    request
}

#[test]
fn edge_3_5_a_header_with_an_unknown_value_or_twice_is_ignored() {
    let force = force_header(HeaderName::from_static("x-backend"));
    let cases: [(&[&str], _); 7] = [
        (&[], None),
        (&["new"], Some(Side::New)),
        (&["OLD"], Some(Side::Old)),
        (&["canary"], None),
        (&[""], None),
        (&["new, old"], None),
        (&["new", "new"], None),
    ];
    for (values, side) in cases {
        assert_eq!(force(&asked(values)), side, "{values:?}");
    }
    let other = force_header(HeaderName::from_static("x-other"));
    assert_eq!(other(&asked(&["new"])), None);
}

#[test]
fn a_refusal_is_unsent_and_a_timeout_or_a_failing_status_is_not() {
    let judge = |answer: testing::Answer<Infallible>| ByResponse::new().judge(&answer);
    assert_eq!(judge(refused(&testing::circuit_open())), Ending::Unsent);
    assert_eq!(judge(refused(&testing::bulkhead_full("db"))), Ending::Unsent);
    assert_eq!(judge(refused(&testing::timed_out())), Ending::Failed);
    for (code, ending) in [(200, Ending::Answered), (404, Ending::Answered), (503, Ending::Failed)]
    {
        assert_eq!(judge(status(code)), ending, "{code}");
    }
    let refusal: testing::Answer<BoxError> = Err(testing::circuit_open().into());
    assert_eq!(ByResponse::client().judge(&refusal), Ending::Unsent);
    assert_eq!(ByResponse::new().judge(&refusal), Ending::Failed);
}

#[test]
fn edge_3_6_with_names_only_the_refusals_of_these_layers_are_unsent() {
    let refusal = testing::bulkhead_full("new-side");
    let judge = |names: &[&'static str]| {
        let judge = ByResponse::new().refused_by(names.iter().copied());
        judge.judge(&refused::<Infallible>(&refusal))
    };
    assert_eq!(judge(&["other", "new-side"]), Ending::Unsent);
    assert_eq!((judge(&["other"]), judge(&[])), (Ending::Failed, Ending::Failed));
    let client = |name: &'static str| {
        let judge = ByResponse::client_refused_by([name]);
        judge.judge(&testing::Answer::<BoxError>::Err(refusal.clone().into()))
    };
    assert_eq!((client("new-side"), client("other")), (Ending::Unsent, Ending::Failed));
    // An unnamed layer is never trusted.
    let unnamed = ByResponse::new().refused_by([""]);
    let unnamed = unnamed.judge(&refused::<Infallible>(&testing::bulkhead_full("")));
    assert_eq!(unnamed, Ending::Failed);
}

/// Sends a request to a split at the share 1, whose new side answers with a status, or refuses.
async fn answer(code: Option<u16>, method: &str, twice: bool) -> (u16, u64) {
    let breaker = circuit_breaker::Config::new().name("new-side").build().unwrap();
    if code.is_none() {
        breaker.handle().force_open();
    }
    let service = |code| {
        service_fn(move |request: Request<String>| async move {
            let response = Response::builder().status(code).body(request.into_body());
            Ok::<_, Infallible>(response.unwrap())
        })
    };
    let new = breaker.http().layer(service(code.unwrap_or(200)));
    let split = Split::new(service(201), new, Config::new().share(1.0)).unwrap();
    let handle = split.handle();
    let request = Request::builder().method(method).body(String::from("body")).unwrap();
    let response = if twice {
        split.fall_back(fall_back(["new-side"]).idempotent(is_idempotent)).oneshot(request).await
    } else {
        split.fall_back(fall_back(["new-side"])).oneshot(request).await
    };
    (response.unwrap().status().as_u16(), handle.stats().fell_back)
}

#[tokio::test(start_paused = true)]
async fn edge_3_6_an_open_circuit_of_the_new_side_is_no_503() {
    for method in ["GET", "POST"] {
        assert_eq!(answer(None, method, false).await, (201, 1), "{method}");
    }
    assert_eq!(answer(Some(500), "GET", false).await, (500, 0), "it may have been done");
    assert_eq!(answer(Some(500), "GET", true).await, (201, 1));
    assert_eq!(answer(Some(500), "POST", true).await, (500, 0));
    assert_eq!(answer(Some(404), "GET", true).await, (404, 0));
}
