//! The status pages behind axum and behind a bare hyper server, over sockets, and what they log.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use buttress::registry::{Document, Registry};
use buttress::telemetry::Sampler;
use buttress::{CircuitState, Clock};
use buttress_durable::bus::{Bus, Pattern, Subscribe};
use buttress_durable::consume::{
    Config, Consumer, Delivery, LetterMonitor, MemoryDeadLetters, Rejected,
};
use buttress_durable::{outbox, saga};
use buttress_http::status::{StatusBoard, StatusButtons, StatusPage};
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::support::lines::Lines;

fn registry() -> Registry {
    let document = "[circuit-breaker.payment]\n[bulkhead.db]\nmax-concurrent = 7\n";
    Registry::new(&toml::from_str::<Document>(document).unwrap()).unwrap()
}

/// Sends `request` as it stands, and returns all of the answer.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn change(path: &str, origin: &str) -> String {
    let body = r#"{"section":"Circuits","name":"payment","action":"force-open"}"#;
    format!(
        "POST {path} HTTP/1.1\r\nhost: shop.example\r\norigin: {origin}\r\n\
         content-type: application/json\r\nx-buttress-action: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn axum_serves_both_pages_below_any_path() {
    let registry = registry();
    let status = Arc::new(StatusBoard::new("shop").registry(registry.clone()));
    let at = StatusPage::new(StatusBoard::new("shop").at("/here").registry(registry.clone()));
    let router = Router::new()
        .nest_service("/status", StatusPage::new(status.clone()))
        .nest_service("/ops", StatusButtons::new(status, |_| Some("alice".into())))
        .route_service("/here", at);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    for path in ["/status", "/status/", "/status?json", "/status/?script", "/ops", "/here?style"] {
        let asked = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw(address, &asked).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        let head = raw(address, &asked.replacen("GET", "HEAD", 1)).await;
        let length = |answer: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
            line.unwrap().parse::<usize>().unwrap()
        };
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{path}: {head}");
        assert!(length(&head) > 100 && length(&answer) > 100, "{path}");
    }
    let circuit = registry.circuit_breaker("payment").unwrap().handle();
    let refused = raw(address, &change("/ops", "http://evil.example")).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let refused = raw(address, &change("/status", "http://shop.example")).await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    assert_eq!(circuit.state(), CircuitState::Closed);
    let done = raw(address, &change("/ops", "http://shop.example")).await;
    assert!(done.starts_with("HTTP/1.1 200"), "{done}");
    assert_eq!(circuit.state(), CircuitState::ForcedOpen);
}

#[tokio::test]
async fn a_bare_hyper_server_serves_the_buttons() {
    let registry = registry();
    let status = StatusBoard::new("shop").at("/ops").registry(registry.clone());
    let buttons = StatusButtons::new(status, |_| Some("alice".into()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let buttons = buttons.clone();
            let service = hyper::service::service_fn(move |request: Request<_>| {
                let buttons = buttons.clone();
                async move { Ok::<_, Infallible>(buttons.oneshot(request).await.unwrap()) }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let done = raw(address, &change("/ops", "http://shop.example")).await;
    assert!(done.starts_with("HTTP/1.1 200"), "{done}");
    let circuit = registry.circuit_breaker("payment").unwrap().handle();
    assert_eq!(circuit.state(), CircuitState::ForcedOpen);
    let missing = raw(address, &change("/other", "http://shop.example")).await;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
}

#[tokio::test]
async fn a_registry_shows_what_a_later_document_adds() {
    let registry = registry();
    let page = StatusPage::new(StatusBoard::new("shop").registry(registry.clone()));
    let json = async || {
        let request = Request::get("/?json").body(()).unwrap();
        page.clone().oneshot(request).await.unwrap().into_body()
    };
    assert!(json().await.contains(r#""max_concurrent":7"#) && !json().await.contains("later"));
    let added = "[bulkhead.later]\nmax-concurrent = 3\n";
    registry.apply(&toml::from_str::<Document>(added).unwrap()).unwrap();
    assert!(json().await.contains("later"));
}

#[tokio::test(start_paused = true)]
async fn a_sampler_shows_the_backlog_and_the_sagas_of_a_store() {
    let sampler = Sampler::new();
    let clock = Clock::default();
    let (logs, store) =
        (saga::MemoryStore::new(clock.clone()), outbox::MemoryStore::new(clock.clone()));
    sampler.watch(saga::Monitor::new("orders", logs, clock).definition("order"));
    sampler.watch(outbox::Monitor::new("news", store.clone()));
    let page = StatusPage::new(StatusBoard::new("shop").sampler(sampler.clone()));
    let json = async || -> serde_json::Value {
        let request = Request::get("/?json").body(()).unwrap();
        serde_json::from_str(page.clone().oneshot(request).await.unwrap().body()).unwrap()
    };
    let outbox = outbox::Outbox::new(store.clone());
    let mut tx = store.begin();
    outbox.write(&mut tx, outbox.message("order-7", "paid")).await.unwrap().committed();
    tx.commit();
    let before = json().await;
    assert!(sampler.refresh().await.is_empty());
    let after = json().await;
    let find = |page: &serde_json::Value, section: &str, row: &str, number: &str| {
        let sections = page["sections"].as_array().unwrap().clone();
        let rows = sections.into_iter().find(|it| it["title"] == section)?["rows"].clone();
        let row = rows.as_array().unwrap().iter().find(|it| it["name"] == row).cloned()?;
        row["numbers"][number].as_u64()
    };
    // The page asks no store: the numbers are those of the last refresh.
    assert_eq!(find(&before, "Stored messages", "news", "backlog"), None);
    assert_eq!(find(&after, "Stored messages", "news", "backlog"), Some(1));
    assert_eq!(find(&after, "Stored sagas", "orders · order · stuck", "stored"), Some(0));
}

/// Issue 18: the status page's rows for consumers.
#[tokio::test(start_paused = true)]
async fn events_2_consumers_their_bus_and_their_dead_letters_are_rows_of_the_page() {
    let (clock, bus, sampler) = (Clock::default(), Bus::new(), Sampler::new());
    let letters = MemoryDeadLetters::new(clock.clone());
    let source = bus.subscribe("billing", Subscribe::new(Pattern::all())).unwrap();
    let handler = tower::service_fn(async |delivery: Delivery| match delivery.payload() {
        b"bad" => Err(Rejected::new("no order").into()),
        _ => Ok::<(), tower::BoxError>(()),
    });
    let consumer = Consumer::new(source, handler, Config::new().name("billing")).unwrap();
    let consumer = consumer.dead_letters(letters.clone()).spawn();
    sampler.watch(consumer.clone());
    sampler.watch(bus.clone());
    sampler.watch(LetterMonitor::new("billing", letters));
    let pausing = consumer.clone();
    let status = StatusBoard::new("shop").sampler(sampler.clone()).action(
        ("Consumer", "billing"),
        ("pause", "Pause"),
        None,
        move |_| {
            pausing.pause();
            std::future::ready(Ok("billing is paused".to_owned()))
        },
    );
    let buttons = StatusButtons::new(status, |_| Some("alice".to_owned()));
    let ask = async |request: Request<String>| -> serde_json::Value {
        serde_json::from_str(buttons.clone().oneshot(request).await.unwrap().body()).unwrap()
    };
    for payload in ["good", "bad"] {
        let id = outbox::MessageId::random(&buttress::Rng::default());
        let message = outbox::NewMessage::new(id, "order-7", payload);
        let message = outbox::Message::new(message, 0, 0, std::time::Duration::ZERO);
        bus.publish(message).await.unwrap();
    }
    clock.sleep(std::time::Duration::from_secs(1)).await;
    assert!(sampler.refresh().await.is_empty());
    let page = ask(Request::get("/?json").body(String::new()).unwrap()).await;
    for (section, number, expected) in [
        ("Consumer", "received", 2),
        ("Consumer", "handled", 1),
        ("Consumer", "dead_letters", 1),
        ("Consumer", "held", 0),
        ("Consumer", "paused", 0),
        ("Bus", "members", 1),
        ("Dead letters", "stored", 1),
    ] {
        let sections = page["sections"].as_array().unwrap();
        let found = sections.iter().find(|it| it["title"] == section);
        let rows = &found.unwrap_or_else(|| panic!("{section}: {page}"))["rows"];
        assert_eq!(rows[0]["numbers"][number], expected, "{section}, {number}: {rows}");
    }
    let press = serde_json::json!({ "section": "Consumer", "name": "billing", "action": "pause" });
    let press = Request::post("/")
        .header("content-type", "application/json")
        .header("x-buttress-action", "1")
        .body(press.to_string())
        .unwrap();
    assert_eq!(ask(press).await["done"], "billing is paused");
    assert!(consumer.is_paused());
}

/// Issue 21, line 5: the page shows the tree of a saga, with the ids of its children, and logs no change.
#[tokio::test(start_paused = true)]
async fn a_lookup_shows_the_tree_of_a_saga_and_of_its_child() {
    let ship = tower::service_fn(async |_: saga::Call<u32>| {
        Err::<u32, tower::BoxError>("no truck".into())
    });
    let mut shipment = saga::Definition::<u32>::builder("shipment", 1).can_be_child();
    let truck = shipment.step("truck").action((), ship, |parcel: &u32, ()| *parcel);
    let truck = truck.undo((), ship, |parcel: &u32, (), _| *parcel).add();
    let shipments =
        saga::Executor::in_memory(shipment.build().unwrap(), saga::Config::new()).unwrap();
    let mut order = saga::Definition::<u32>::builder("order", 1);
    order.step("ship").child(&shipments, |order: &u32, ()| *order, truck);
    let orders = saga::Executor::in_memory(order.build().unwrap(), saga::Config::new()).unwrap();
    let report = orders.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), saga::Status::Stuck);

    let lines = Lines::capture();
    let tree_of = |sagas: saga::Executor<u32, _, _>| {
        move |id: String| {
            let sagas = sagas.clone();
            async move {
                let id = id.trim().parse().map_err(|_| "this is not an id".to_owned())?;
                let tree = sagas.state(id).await.map_err(|error| error.to_string())?;
                tree.map(|tree| tree.to_string()).ok_or_else(|| "there is no such saga".to_owned())
            }
        }
    };
    let status = StatusBoard::new("shop")
        .lookup(("Sagas", "orders"), ("show", "Show"), "id of the saga", tree_of(orders.clone()))
        .lookup(("Sagas", "shipments"), ("show", "Show"), "id of the saga", tree_of(shipments));
    let buttons = StatusButtons::new(status, |_| Some("alice".to_owned()));
    let look = async |name: &str, id: String| -> serde_json::Value {
        let body =
            serde_json::json!({ "section": "Sagas", "name": name, "action": "show", "value": id });
        let request = Request::post("/")
            .header("content-type", "application/json")
            .header("x-buttress-action", "1")
            .body(body.to_string())
            .unwrap();
        serde_json::from_str(buttons.clone().oneshot(request).await.unwrap().body()).unwrap()
    };
    let tree = orders.state(report.id()).await.unwrap().unwrap();
    let child = tree.steps[0].child.unwrap();
    let seen = look("orders", report.id().to_string()).await;
    let text = seen["shown"].as_str().unwrap();
    assert!(text.contains("no truck") && text.contains(&child.to_string()), "{text}");
    let seen = look("shipments", child.to_string()).await;
    let text = seen["shown"].as_str().unwrap();
    assert!(text.contains("shipment") && text.contains(&report.id().to_string()), "{text}");
    assert_eq!(look("orders", "7".to_owned()).await["error"], "this is not an id");
    assert_eq!(look("orders", child.to_string()).await["error"], "there is no such saga");
    assert_eq!(lines.take(), [], "a look-up changes nothing");
}

#[tokio::test]
async fn every_change_is_logged_with_the_operator() {
    let lines = Lines::capture();
    let status = StatusBoard::new("shop").registry(registry());
    let buttons = StatusButtons::new(status, |head| {
        Some(head.headers.get("x-test-user")?.to_str().ok()?.to_owned())
    });
    let press = async |user: Option<&str>, name: &str| {
        let mut request = Request::post("/")
            .header("content-type", "application/json")
            .header("x-buttress-action", "1");
        if let Some(user) = user {
            request = request.header("x-test-user", user);
        }
        let body = serde_json::json!({ "section": "Circuits", "name": name, "action": "disable" });
        let request = request.body(body.to_string()).unwrap();
        buttons.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(press(None, "payment").await, StatusCode::FORBIDDEN);
    assert_eq!(lines.take(), [], "nothing was changed");
    assert_eq!(press(Some("alice\" x=\"1"), "payment").await, StatusCode::OK);
    let logged = lines.take();
    let line = logged.iter().find(|(_, text)| text.contains("an operator made a change")).unwrap();
    assert_eq!(line.0, tracing::Level::INFO);
    // A name cannot write a separate field.
    assert!(line.1.contains(r#"operator="alice\" x=\"1" "#), "{}", line.1);
    assert!(line.1.contains(r#"name="payment" action="disable""#), "{}", line.1);
    assert_eq!(press(Some("bob"), "nothing").await, StatusCode::NOT_FOUND);
    let [(level, text)] = &lines.take()[..] else { panic!("one line") };
    assert_eq!(*level, tracing::Level::WARN);
    assert!(text.contains("a change of an operator failed") && text.contains("bob"), "{text}");
}
