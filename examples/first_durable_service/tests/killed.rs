//! The test kills the program in the middle of an order, and the next process finishes the order.
//! The test is also the provider: it charges cards and sends mails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/guide.rs"]
mod guide;

use std::path::PathBuf;
use std::process::Stdio;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::post};
use guide::{assert_shows, with_database};
use sqlx::{AnyConnection, Connection, Row};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// A request to the provider: its path, its key and its body.
type Seen = (&'static str, String, String);

#[derive(Clone)]
struct Provider {
    seen: UnboundedSender<Seen>,
    /// Whether the provider answers charges.
    answers: watch::Receiver<bool>,
}

fn key(headers: &HeaderMap) -> String {
    headers["idempotency-key"].to_str().unwrap().to_owned()
}

/// Charges a card. It declines a price of 13.
async fn charge(
    State(mut provider): State<Provider>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let declined = body == "13";
    provider.seen.send(("charge", key(&headers), body)).unwrap();
    provider.answers.wait_for(|answers| *answers).await.unwrap();
    if declined { StatusCode::PAYMENT_REQUIRED } else { StatusCode::OK }
}

async fn mail(State(provider): State<Provider>, headers: HeaderMap, body: String) -> StatusCode {
    provider.seen.send(("mail", key(&headers), body)).unwrap();
    StatusCode::OK
}

/// One process of the service.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    async fn start(program: &str, folder: &PathBuf, database: &str, provider: &str) -> Self {
        let mut child = Command::new(program)
            .args(["127.0.0.1:0", provider])
            .env("DATABASE_URL", database)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut url = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut url).await.unwrap();
        assert!(url.starts_with("http://"), "the service did not start: {url:?}");
        Self { child, url: url.trim().to_owned() }
    }

    async fn order(&self, number: u32, price: u32) -> Result<(u16, String), reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let request = http.post(format!("{}/orders/{number}", self.url));
        let request = request.header("content-type", "application/json");
        let answer = request.body(format!(r#"{{"item":1,"price":{price}}}"#)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Runs a stuck order again, as an operator does.
    async fn retry(&self, number: u32) -> Result<(u16, String), reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let answer = http.post(format!("{}/orders/{number}/retry", self.url)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

async fn an_order_survives_a_kill(program: &str, folder: PathBuf, database: &str, url: &str) {
    let (seen, mut requests): (_, UnboundedReceiver<Seen>) = unbounded_channel();
    let (answer, answers) = watch::channel(false);
    let provider = Router::new()
        .route("/charges", post(charge))
        .route("/mails", post(mail))
        .with_state(Provider { seen, answers });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, provider).await });

    // The process is killed after the reservation and during the charge.
    let mut first = Process::start(program, &folder, database, &address).await;
    let order = first.order(7, 990);
    let (path, key, price) = tokio::select! {
        request = requests.recv() => request.unwrap(),
        answered = order => panic!("the charge has no answer yet: {answered:?}"),
    };
    assert_eq!((path, price.as_str()), ("charge", "990"));
    first.child.kill().await.unwrap();
    answer.send_replace(true);

    // The next process charges with the same key. The client gets the outcome when it repeats its
    // request.
    let mut next = Process::start(program, &folder, database, &address).await;
    assert_eq!(next.order(7, 990).await.unwrap(), (201, "placed".to_owned()));
    assert_eq!(requests.recv().await.unwrap(), ("charge", key, "990".to_owned()));
    let (path, _, text) = requests.recv().await.unwrap();
    assert_eq!((path, text.as_str()), ("mail", "order 7 placed"));
    assert_eq!(next.order(7, 990).await.unwrap(), (201, "placed".to_owned()));

    // A declined card releases the item.
    let (status, reason) = next.order(8, 13).await.unwrap();
    assert_eq!(status, 409);
    assert!(reason.starts_with("charge: "), "{reason}");
    assert_eq!(requests.recv().await.unwrap().0, "charge");

    // The row of the item is missing when the declined order releases it. The order is stuck, and says so until an
    // operator runs it again.
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    answer.send_replace(false);
    let ((status, reason), ()) = tokio::join!(async { next.order(10, 13).await.unwrap() }, async {
        assert_eq!(requests.recv().await.unwrap().0, "charge");
        sqlx::query("UPDATE stock SET item = 2").execute(&mut connection).await.unwrap();
        answer.send_replace(true);
    });
    assert_eq!(status, 202);
    assert!(
        reason.starts_with("stuck until run again: ") && reason.contains("sold out"),
        "{reason}"
    );
    assert_eq!(next.order(10, 13).await.unwrap(), (202, reason));
    sqlx::query("UPDATE stock SET item = 1").execute(&mut connection).await.unwrap();
    let (status, reason) = next.retry(10).await.unwrap();
    assert_eq!(status, 409, "the order is cancelled: {reason}");
    assert_eq!(next.order(10, 13).await.unwrap(), (409, reason));
    let (status, reason) = next.retry(10).await.unwrap();
    assert!(status == 503 && reason.contains("not stuck"), "{status}: {reason}");

    // Ctrl-C ends the process gracefully, although a client has sent half a head. The answer to a later
    // request shows that the server has accepted the client's connection.
    let mut slow = TcpStream::connect(next.url.trim_start_matches("http://")).await.unwrap();
    slow.write_all(b"POST /orders/9 HTTP/1.1\r\n").await.unwrap();
    assert_eq!(next.order(7, 990).await.unwrap(), (201, "placed".to_owned()));
    let id = next.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    assert!(next.child.wait().await.unwrap().success());
    assert!(requests.try_recv().is_err(), "one mail, and no further charge");

    let counts = "SELECT available, (SELECT count(*) FROM orders) FROM stock WHERE item = 1";
    let row = sqlx::query(counts).fetch_one(&mut connection).await.unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (9, 1));
    connection.close().await.unwrap();
}

#[tokio::test]
async fn on_sqlite() {
    let folder = std::env::temp_dir().join(format!("first-durable-service-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite://{}/orders.db", folder.display());
    let program = env!("CARGO_BIN_EXE_first_durable_service");
    an_order_survives_a_kill(program, folder.clone(), "", &url).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn on_postgres() {
    let program = env!("CARGO_BIN_EXE_on_postgres");
    with_database("first_durable_service", async |database| {
        an_order_survives_a_kill(program, std::env::temp_dir(), database, database).await;
    })
    .await;
}

/// A missing variable is named.
#[tokio::test]
async fn without_the_url_of_the_database() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_on_postgres"));
    let command = command.args(["127.0.0.1:0", "http://127.0.0.1:1"]).env_remove("DATABASE_URL");
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("DATABASE_URL"), "{said}");
}

/// The guide shows this program.
#[test]
fn the_page_shows_the_program() {
    let page = include_str!("../../../crates/buttress-sqlx/src/guide/first_service.md");
    let program = include_str!("../src/main.rs");
    assert_shows(page, program);
    let lines = program.lines().count();
    assert!(lines < 150, "{lines} lines are too many for a first service");
    let lines = format!("in {lines} lines");
    assert!(include_str!("../../../README.md").contains(&lines), "the README says {lines}");
    let build = include_str!("../build.rs");
    let (_, line) = build.split_once("r#\"Postgres").expect("the other line");
    let (line, _) = line.split_once("\"#;").expect("it ends");
    assert!(page.contains(line), "{line}");
}
