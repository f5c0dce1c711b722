//! Requests and answers of both pages.

use std::sync::Arc;
use std::time::Duration;

use buttress::circuit_breaker::{self, CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::{CircuitState, bulkhead, rate_limit, retry, time_limit};
use http::request::Builder;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Status, StatusButtons, StatusPage};

/// The name of everything that comes from outside.
const HOSTILE: &str = "</td><script>alert('x')</script>\"&\u{202e}evil";

struct Parts {
    circuit: circuit_breaker::Handle,
    bulkhead: bulkhead::Handle,
    limiter: rate_limit::Handle,
    retry: retry::Handle,
    limit: time_limit::Handle,
}

fn parts() -> (Parts, Status) {
    let limiter = rate_limit::Config::new().refill(5, Duration::from_secs(2)).build().unwrap();
    let parts = Parts {
        circuit: CircuitBreakerLayer::default().handle(),
        bulkhead: bulkhead::BulkheadLayer::default().handle(),
        limiter: limiter.handle(),
        retry: retry::RetryLayer::default().handle(),
        limit: time_limit::TimeLimitLayer::after(Duration::from_secs(1)).handle(),
    };
    let status = Status::new("shop")
        .circuit_breaker("payment", parts.circuit.clone())
        .bulkhead("db", parts.bulkhead.clone())
        .rate_limit("edge", parts.limiter.clone())
        .retry("api", parts.retry.clone())
        .time_limit("api", parts.limit.clone());
    (parts, status)
}

fn buttons(status: Status) -> StatusButtons {
    StatusButtons::new(status, |head| {
        let name = head.headers.get("x-test-user")?.to_str().ok()?;
        (name != "mallory").then(|| name.to_owned())
    })
}

fn get(uri: &str) -> Request<String> {
    Request::get(uri).body(String::new()).unwrap()
}

async fn ask(page: &StatusPage, request: Request<String>) -> Response<String> {
    page.clone().oneshot(request).await.unwrap()
}

async fn press(buttons: &StatusButtons, request: Request<String>) -> (StatusCode, Value) {
    let response = buttons.clone().oneshot(request).await.unwrap();
    (response.status(), serde_json::from_str(response.body()).unwrap())
}

/// A change as the page of the service sends it.
fn change() -> Builder {
    Request::post("/")
        .header("host", "shop.example")
        .header("origin", "https://shop.example")
        .header("x-test-user", "alice")
        .header("content-type", "application/json")
        .header("x-buttress-action", "1")
}

fn command(section: &str, name: &str, action: &str, value: &str) -> Request<String> {
    let body = json!({ "section": section, "name": name, "action": action, "value": value });
    change().body(body.to_string()).unwrap()
}

/// What every answer carries.
fn assert_guarded(headers: &HeaderMap) {
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["content-security-policy"], "default-src 'self'; frame-ancestors 'none'");
    assert_eq!(headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn the_json_has_sections_rows_and_every_number() {
    let (parts, status) = parts();
    let _permit = parts.bulkhead.try_acquire().unwrap();
    let answer = ask(&StatusPage::new(status), get("/?json")).await;
    assert_guarded(answer.headers());
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!(body["title"], "shop");
    let titles: Vec<_> =
        body["sections"].as_array().unwrap().iter().map(|it| &it["title"]).collect();
    assert_eq!(titles, ["Circuits", "Bulkheads", "Rate limits", "Retries", "Time limits"]);
    let row = |section: usize| &body["sections"][section]["rows"][0];
    assert_eq!(row(0)["name"], "payment");
    assert_eq!(row(0)["numbers"]["state"], "closed");
    assert_eq!(row(0)["numbers"]["failure_rate"], Value::Null);
    assert_eq!(row(1)["numbers"]["active"], 1);
    assert_eq!(row(2)["numbers"]["refill_period"], 2.0);
    assert_eq!(row(4)["numbers"]["limit"], 1.0);
    assert_eq!(row(0).get("actions"), None, "a page without buttons names no actions");
}

#[tokio::test]
async fn numbers_stand_under_their_headings() {
    let (parts, status) = parts();
    for _ in 0..3 {
        let _refused = parts.limiter.try_acquire(1000).unwrap_err();
    }
    let answer = ask(&StatusPage::new(status), get("/")).await;
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let html = answer.body();
    let section = html.split("data-id=\"Rate limits\"").nth(1).unwrap();
    let (head, body) = section.split_once("</thead>").unwrap();
    let cells = |row: &str, end: &str| -> Vec<String> {
        let texts = row.split(end).filter_map(|cell| cell.rsplit('>').next());
        texts.map(str::to_owned).collect()
    };
    let headings = cells(head, "</th>");
    let numbers = cells(body.split("</tr>").next().unwrap(), "</td>");
    let at = |heading: &str| {
        let column = headings.iter().position(|it| it == heading).unwrap();
        // The first heading belongs to the name, whose cell is a `th`.
        numbers[column - 1].as_str()
    };
    assert_eq!((at("Size"), at("Refused"), at("Period")), ("10", "3", "2 s"));
    assert!(!html.contains("<button"), "no buttons");
}

#[tokio::test]
async fn every_text_from_outside_is_escaped() {
    let circuit = CircuitBreakerLayer::default().handle();
    let status = Status::new(HOSTILE)
        .circuit_breaker(HOSTILE, circuit.clone())
        .numbers(HOSTILE, HOSTILE, || std::collections::BTreeMap::from([(HOSTILE, HOSTILE)]))
        .numbers("long", "x".repeat(100_000), || json!({ "n": 1 }))
        .action(("Circuits", HOSTILE), (HOSTILE, HOSTILE), Some(HOSTILE), |_| async {
            Ok(String::new())
        });
    let buttons = StatusButtons::new(status, |_| Some(HOSTILE.to_owned()));
    let answer = buttons.clone().oneshot(get("/")).await.unwrap();
    let html = answer.body();
    assert_eq!(html.matches("<script").count(), 1, "that of the page");
    assert!(!html.contains("alert('x')") && !html.contains('\u{202e}'));
    // Tags and attributes are those of the page: the hostile quote ends no attribute.
    assert!(
        !html.contains("\"&\u{202e}") && html.contains("&lt;/td&gt;&lt;script&gt;alert(&#39;x")
    );
    // A hostile name still names its row.
    let (status, _) = press(&buttons, command("Circuits", HOSTILE, "force-open", "")).await;
    assert_eq!((status, circuit.state()), (StatusCode::OK, CircuitState::ForcedOpen));
    let answer = buttons.oneshot(get("/?json")).await.unwrap();
    let json: Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!(json["sections"][0]["rows"][0]["name"], HOSTILE);
}

#[tokio::test]
async fn only_the_path_of_the_page_is_answered() {
    let page = StatusPage::new(Status::new("shop").at("/status"));
    for (uri, expected) in [
        ("/status", 200),
        ("/status/", 200),
        ("/status?json", 200),
        ("/status?script", 200),
        ("/status?style", 200),
        ("/status?icon", 200),
        ("/status?jsonp", 404),
        ("/status?json=1", 404),
        ("/", 404),
        ("/status/x", 404),
        ("/statusx", 404),
        ("/status/../status", 404),
    ] {
        let answer = ask(&page, get(uri)).await;
        assert_eq!(answer.status().as_u16(), expected, "{uri}");
        assert_guarded(answer.headers());
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let (_, status) = parts();
    let page = StatusPage::new(status);
    for uri in ["/", "/?json", "/?script", "/?nothing"] {
        let whole = ask(&page, get(uri)).await;
        let head = ask(&page, Request::head(uri).body(String::new()).unwrap()).await;
        assert_eq!(head.status(), whole.status());
        assert_eq!(head.body(), "");
        assert_eq!(head.headers()["content-length"], whole.body().len().to_string());
        assert_eq!(head.headers()["content-type"], whole.headers()["content-type"]);
    }
}

#[tokio::test]
async fn other_methods_are_refused_with_the_right_ones() {
    let (parts, status) = parts();
    let status = Arc::new(status);
    let page = StatusPage::new(status.clone());
    let buttons = StatusButtons::new(status, |_| Some(String::from("alice")));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let request = || Request::builder().method(method).uri("/").body(String::new()).unwrap();
        let answer = ask(&page, request()).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
        if method != "POST" {
            let answer = buttons.clone().oneshot(request()).await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(answer.headers()["allow"], "GET, HEAD, POST");
            assert_guarded(answer.headers());
        }
    }
    // A page without buttons changes nothing, whatever is posted.
    let answer = ask(&page, command("Circuits", "payment", "force-open", "")).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(parts.circuit.state(), CircuitState::Closed);
}

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

#[tokio::test]
async fn keys_that_clients_chose_are_shown_only_where_asked() {
    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let layer = KeyedCircuitBreakerLayer::new(config, 9, |it: &String| it.clone()).unwrap();
    let handle = layer.handle();
    let (secret, known) = (String::from("secret-client"), String::from("eu-1"));
    for key in [&secret, &known] {
        handle.try_acquire(key).unwrap().failure();
    }
    let status = Status::new("shop").keyed_circuit_breaker("upstreams", handle.clone());
    let counts = ask(&StatusPage::new(status), get("/?json")).await;
    assert!(!counts.body().contains("secret-client") && !counts.body().contains("eu-1"));
    assert!(counts.body().contains(r#""keys":2"#));
    let shown = known.clone();
    let status = Status::new("shop")
        .circuit_breaker_keys("upstreams", handle.clone(), move || vec![shown.clone(), "x".into()]);
    let buttons = buttons(status);
    let (_, json) = press(&buttons, {
        Request::get("/?json").header("x-test-user", "a").body(String::new()).unwrap()
    })
    .await;
    let rows = json["sections"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "a key that is not held is no row, and is not made");
    assert_eq!(rows[0]["name"], "upstreams: eu-1");
    assert_eq!(rows[0]["numbers"]["state"], "open");
    press(&buttons, command("Circuits", "upstreams: eu-1", "reset", "")).await;
    assert_eq!(handle.get(&known).unwrap().state(), CircuitState::Closed);
    assert_eq!(handle.get(&secret).unwrap().state(), CircuitState::Open);
}
