//! Requests and answers of both pages.

use std::sync::Arc;
use std::time::Duration;

use buttress::circuit_breaker::{self, CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::telemetry::{Instrument, Reading, Sampler, Source, Unit};
use buttress::{CircuitState, bulkhead, rate_limit, retry, time_limit};
use http::request::Builder;
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{StatusBoard, StatusButtons, StatusPage};

mod changes;

/// The name of everything that comes from outside.
const HOSTILE: &str = "</td><script>alert('x')</script>\"&\u{202e}evil";

struct Parts {
    circuit: circuit_breaker::Handle,
    bulkhead: bulkhead::Handle,
    limiter: rate_limit::Handle,
    retry: retry::Handle,
    limit: time_limit::Handle,
}

fn parts() -> (Parts, StatusBoard) {
    let limiter = rate_limit::Config::new().refill(5, Duration::from_secs(2)).build().unwrap();
    let parts = Parts {
        circuit: CircuitBreakerLayer::default().handle(),
        bulkhead: bulkhead::BulkheadLayer::default().handle(),
        limiter: limiter.handle(),
        retry: retry::RetryLayer::default().handle(),
        limit: time_limit::TimeLimitLayer::after(Duration::from_secs(1)).handle(),
    };
    let status = StatusBoard::new("shop")
        .circuit_breaker("payment", parts.circuit.clone())
        .bulkhead("db", parts.bulkhead.clone())
        .rate_limit("edge", parts.limiter.clone())
        .retry("api", parts.retry.clone())
        .time_limit("api", parts.limit.clone());
    (parts, status)
}

fn buttons(status: impl Into<Arc<StatusBoard>>) -> StatusButtons {
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

/// The fields of every answer.
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
    let status = StatusBoard::new(HOSTILE)
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
    let page = StatusPage::new(StatusBoard::new("shop").at("/status"));
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
async fn keys_that_clients_chose_are_shown_only_where_asked() {
    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let layer = KeyedCircuitBreakerLayer::new(config, 9, |it: &String| it.clone()).unwrap();
    let handle = layer.handle();
    let (secret, known) = (String::from("secret-client"), String::from("eu-1"));
    for key in [&secret, &known] {
        handle.try_acquire(key).unwrap().failure();
    }
    let status = StatusBoard::new("shop").keyed_circuit_breaker("upstreams", handle.clone());
    let counts = ask(&StatusPage::new(status), get("/?json")).await;
    assert!(!counts.body().contains("secret-client") && !counts.body().contains("eu-1"));
    assert!(counts.body().contains(r#""keys":2"#));
    let shown = known.clone();
    let status =
        StatusBoard::new("shop").circuit_breaker_keys("upstreams", handle.clone(), move || {
            vec![shown.clone(), "x".into()]
        });
    let buttons = buttons(status);
    let (_, json) = press(&buttons, {
        Request::get("/?json").header("x-test-user", "a").body(String::new()).unwrap()
    })
    .await;
    let rows = json["sections"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "a key that is not held is not a row, and is not made");
    assert_eq!(rows[0]["name"], "upstreams: eu-1");
    assert_eq!(rows[0]["numbers"]["state"], "open");
    press(&buttons, command("Circuits", "upstreams: eu-1", "reset", "")).await;
    assert_eq!(handle.get(&known).unwrap().state(), CircuitState::Closed);
    assert_eq!(handle.get(&secret).unwrap().state(), CircuitState::Open);
}

#[test]
fn the_guide_lists_the_section_of_each_part() {
    let keyed = KeyedCircuitBreakerLayer::new(Default::default(), 9, |it: &String| it.clone());
    let sampler = Sampler::new();
    sampler.watch(bulkhead::BulkheadLayer::default().handle());
    let status = parts()
        .1
        .fallback("listed", FallbackLayer::value(1).handle())
        .keyed_circuit_breaker("upstreams", keyed.unwrap().handle())
        .sampler(sampler);
    let guide = include_str!("../guide/status.md");
    let json = status.json(false);
    let sections = json["sections"].as_array().unwrap();
    assert!(sections.len() == 8, "{json}");
    for title in sections.iter().map(|section| section["title"].as_str().unwrap()) {
        assert!(guide.contains(&format!("`{title}`")), "{title}");
    }
}

/// The numbers of an executor and of a monitor, as `buttress-durable` reports them.
struct SagasAndMessages;

impl Source for SagasAndMessages {
    fn read(&self, reading: &mut Reading) {
        const fn gauge(name: &'static str, labels: &'static [&'static str]) -> Instrument {
            Instrument::gauge(name, Unit::Count, labels, "A number.")
        }
        static STORED: Instrument = gauge("buttress.saga.stored", &["layer", "status"]);
        static OLDEST: Instrument = gauge("buttress.saga.oldest_age", &["layer", "status"]);
        static ENDED: Instrument =
            Instrument::counter("buttress.saga.ended", &["layer", "status"], "A number.");
        static BACKLOG: Instrument = gauge("buttress.outbox.backlog", &["layer"]);
        static PARTITIONS: Instrument = gauge("buttress.outbox.partitions", &["layer"]);
        for (instrument, value) in [(&STORED, 4.0), (&OLDEST, 60.0), (&ENDED, 5.0)] {
            reading.add(instrument, ["orders", "stuck"], value);
        }
        for (instrument, value) in [(&BACKLOG, 7.0), (&PARTITIONS, 16.0)] {
            reading.add(instrument, ["news"], value);
        }
    }
}

/// Five sagas became stuck in this process and four are stuck: both numbers in one table looked like a contradiction.
#[test]
fn numbers_of_this_process_are_not_in_the_table_of_the_store() {
    let sampler = Sampler::new();
    sampler.watch(SagasAndMessages);
    let json = StatusBoard::new("shop").sampler(sampler).json(false);
    let row = |name: &str, numbers: Value| json!([{ "name": name, "numbers": numbers }]);
    let sections = json!([
        { "title": "Stored sagas", "rows": row("orders · stuck", json!({ "stored": 4, "oldest_age": 60 })) },
        { "title": "Sagas of this process", "rows": row("orders · stuck", json!({ "ended": 5 })) },
        { "title": "Stored messages", "rows": row("news", json!({ "backlog": 7 })) },
        { "title": "Messages of this process", "rows": row("news", json!({ "partitions": 16 })) },
    ]);
    assert_eq!(json["sections"], sections);
    let guide = include_str!("../guide/status.md");
    for section in sections.as_array().unwrap() {
        let title = section["title"].as_str().unwrap();
        assert!(guide.contains(&format!("`{title}`")), "{title}");
    }
}

#[tokio::test]
async fn a_lookup_shows_the_text_of_the_application_to_operators_only() {
    let find = |id: String| async move {
        match id.as_str() {
            "panic" => panic!("in a look-up"),
            "7" => Ok(format!("order 7\n└─ {HOSTILE}")),
            _ => Err(format!("there is no saga {id}")),
        }
    };
    let status = StatusBoard::new("shop").lookup(("Sagas", "orders"), ("show", "Show"), "id", find);
    let status = Arc::new(status);
    let page = ask(&StatusPage::new(status.clone()), get("/")).await;
    assert!(page.body().contains("orders") && !page.body().contains("<form"), "{}", page.body());
    let buttons = buttons(status);
    let html = buttons.clone().oneshot(change().method("GET").body(String::new()).unwrap()).await;
    let html = html.unwrap().into_body();
    assert!(html.contains("data-action=\"show\"") && html.contains("id=\"shown\""), "{html}");
    let look = async |id| press(&buttons, command("Sagas", "orders", "show", id)).await;
    assert_eq!(
        look("7").await,
        (StatusCode::OK, json!({ "shown": format!("order 7\n└─ {HOSTILE}") }))
    );
    let (status, json) = look("8").await;
    assert_eq!(
        (status, &json["error"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("there is no saga 8"))
    );
    let (status, json) = look("panic").await;
    assert_eq!(
        (status, &json["error"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("the action panicked"))
    );
}
