//! Changes through the buttons: who may make them, and their effects.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::CircuitState;
use buttress::circuit_breaker::{self, KeyedCircuitBreakerLayer};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::{StatusButtons, StatusPage};
use super::{ask, buttons, change, command, get, parts, press};

#[tokio::test]
async fn circuits_are_forced_and_limits_changed_while_calls_run() {
    let (parts, status) = parts();
    let buttons = buttons(status);
    for (action, state) in [
        ("force-open", CircuitState::ForcedOpen),
        ("disable", CircuitState::Disabled),
        ("reset", CircuitState::Closed),
    ] {
        let (status, body) = press(&buttons, command("Circuits", "payment", action, "")).await;
        assert_eq!((status, parts.circuit.state()), (StatusCode::OK, state), "{body}");
        assert_eq!(body["done"], format!("{action}: payment"));
    }
    for (section, name, action, value) in [
        ("Bulkheads", "db", "set-max-concurrent", "41"),
        ("Rate limits", "edge", "set-max-tokens", " 42 "),
        ("Rate limits", "edge", "set-refill-tokens", "43"),
        ("Retries", "api", "set-attempts", "5"),
        ("Time limits", "api", "set-limit-ms", "250"),
    ] {
        let (status, body) = press(&buttons, command(section, name, action, value)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let limits = parts.limiter.stats();
    assert_eq!(parts.bulkhead.stats().max_concurrent, 41);
    assert_eq!((limits.max_tokens, limits.refill_tokens), (42, 43));
    assert_eq!(limits.refill_period, Duration::from_secs(2), "the period stays");
    assert_eq!(parts.retry.stats().attempts, 5);
    assert_eq!(parts.limit.stats().limit, Duration::from_millis(250));
}

#[tokio::test]
async fn a_value_that_cannot_be_changes_nothing() {
    let (parts, status) = parts();
    let buttons = buttons(status);
    let before = parts.bulkhead.stats();
    for value in ["0", "", "-1", "1.5", "many", "4294967296", "<b>"] {
        let request = command("Bulkheads", "db", "set-max-concurrent", value);
        let (status, body) = press(&buttons, request).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{value}: {body}");
    }
    assert_eq!(parts.bulkhead.stats(), before);
    for (section, name, action) in [
        ("Circuits", "payment", "set-max-concurrent"),
        ("Circuits", "payments", "reset"),
        ("Circuit", "payment", "reset"),
        ("Bulkheads", "db", "force-open"),
    ] {
        let (status, body) = press(&buttons, command(section, name, action, "1")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    }
}

#[tokio::test]
async fn a_change_that_does_not_come_from_the_page_changes_nothing() {
    let (parts, status) = parts();
    let buttons = buttons(status);
    let good =
        json!({ "section": "Circuits", "name": "payment", "action": "force-open" }).to_string();
    let without = |header: &str| {
        let mut request = change().body(good.clone()).unwrap();
        request.headers_mut().remove(header);
        request
    };
    let with = |header: &'static str, value: &'static str| {
        let mut request = change().body(good.clone()).unwrap();
        request.headers_mut().insert(header, value.parse().unwrap());
        request
    };
    let with_body = |body: &str| change().body(body.to_owned()).unwrap();
    let large = format!("{}{good}", " ".repeat(4097 - good.len()));
    for (request, expected) in [
        (without("x-test-user"), 403),
        (with("x-test-user", "mallory"), 403),
        (without("x-buttress-action"), 403),
        (with("origin", "https://evil.example"), 403),
        (with("origin", "null"), 403),
        (with("sec-fetch-site", "cross-site"), 403),
        (with("sec-fetch-site", "same-site"), 403),
        (without("content-type"), 415),
        (with("content-type", "text/plain"), 415),
        (with("content-type", "application/x-www-form-urlencoded"), 415),
        (with_body(&large), 413),
        (with_body(""), 400),
        (with_body("{}"), 400),
        (with_body("[1"), 400),
        (with_body(r#"{"section":"Circuits","name":"payment","action":"force-open","x":1}"#), 400),
    ] {
        let (status, body) = press(&buttons, request).await;
        assert_eq!(status.as_u16(), expected, "{body}");
        assert!(body["error"].is_string() && body.get("done").is_none(), "{body}");
        assert_eq!(parts.circuit.state(), CircuitState::Closed, "{body}");
    }
    // The largest body that is taken.
    let (status, body) = press(&buttons, with_body(&large[1..])).await;
    assert_eq!(
        (status, parts.circuit.state()),
        (StatusCode::OK, CircuitState::ForcedOpen),
        "{body}"
    );
}

#[tokio::test]
async fn an_operator_who_is_not_admitted_sees_no_page() {
    let (_, status) = parts();
    let buttons = buttons(status);
    let (status, _) = press(&buttons, get("/")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let request = Request::get("/").header("x-test-user", "alice").body(String::new()).unwrap();
    let answer = buttons.oneshot(request).await.unwrap();
    assert!(answer.body().contains("alice") && answer.body().contains("<button"));
}

#[tokio::test]
async fn a_closure_that_panics_admits_nobody_and_takes_no_row_away() {
    let (parts, status) = parts();
    let status = Arc::new(
        status
            .numbers("Own", "panics", || -> u32 { panic!("of the application") })
            .numbers("Own", "no object", || 7)
            .numbers("Own", "works", || json!({ "n": 7 }))
            .circuit_breaker_keys(
                "upstreams",
                KeyedCircuitBreakerLayer::new(circuit_breaker::Config::new(), 9, |it: &u32| *it)
                    .unwrap()
                    .handle(),
                || panic!("of the application"),
            )
            .action(("Own", "works"), ("at-once", "x"), None, |_| -> std::future::Ready<_> {
                panic!("of the application")
            })
            .action(("Own", "works"), ("later", "x"), None, |_| async {
                panic!("of the application")
            }),
    );
    let answer = ask(&StatusPage::new(status.clone()), get("/?json")).await;
    let json: Value = serde_json::from_str(answer.body()).unwrap();
    let own = json["sections"].as_array().unwrap().iter().find(|it| it["title"] == "Own").unwrap();
    assert_eq!(own["rows"][0]["error"], "the numbers could not be read");
    assert_eq!(own["rows"][1]["error"], "the numbers could not be read");
    assert_eq!(own["rows"][2]["numbers"]["n"], 7);
    assert!(answer.body().contains("Other parts"), "the keys that panicked");
    let page = ask(&StatusPage::new(status.clone()), get("/")).await;
    assert!(page.body().contains("the numbers could not be read"));

    let admitting = StatusButtons::new(status.clone(), |_| Some(String::from("alice")));
    for action in ["at-once", "later"] {
        let (code, body) = press(&admitting, command("Own", "works", action, "")).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(body["error"], "the action panicked");
    }
    let panicking = StatusButtons::new(status, |_| panic!("of the application"));
    let request = command("Circuits", "payment", "force-open", "");
    let (code, _) = press(&panicking, request).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(parts.circuit.state(), CircuitState::Closed);
}

#[tokio::test]
async fn actions_of_the_application_get_the_value_and_tell_the_operator() {
    let (_, status) = parts();
    let status = status.action(
        ("Sagas", "orders"),
        ("run-again", "Run again"),
        Some("number"),
        |saga| async move {
            match saga.parse::<u32>() {
                Ok(saga) => Ok(format!("saga {saga} runs again")),
                Err(_) => Err(format!("no saga is {saga:?}")),
            }
        },
    );
    let buttons = buttons(status);
    let run = |saga| press(&buttons, command("Sagas", "orders", "run-again", saga));
    assert_eq!(run("7").await, (StatusCode::OK, json!({ "done": "saga 7 runs again" })));
    let expected = json!({ "error": "no saga is \"x\"" });
    assert_eq!(run("x").await, (StatusCode::UNPROCESSABLE_ENTITY, expected));
    let request = Request::get("/?json").header("x-test-user", "a").body(String::new()).unwrap();
    let (_, json) = press(&buttons, request).await;
    let sagas = json["sections"].as_array().unwrap().last().unwrap();
    assert_eq!(sagas["rows"][0]["actions"], json!(["run-again"]));
}

/// The panic once took the place of the answer to the operator.
#[tokio::test]
async fn an_action_that_panics_when_it_is_dropped_is_done() {
    struct Done;

    impl Future for Done {
        type Output = Result<String, String>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(Ok("done".to_owned()))
        }
    }

    impl Drop for Done {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a value panics when it is dropped");
        }
    }

    let (_, status) = parts();
    let buttons = buttons(status.action(("Own", "works"), ("run", "Run"), None, |_| Done));
    let pressed = press(&buttons, command("Own", "works", "run", "")).await;
    assert_eq!(pressed, (StatusCode::OK, json!({ "done": "done" })));
}
