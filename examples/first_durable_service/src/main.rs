//! A shop that takes orders over HTTP, and may be killed at any moment. Each order is a saga of three steps, and a mail.

use std::time::Duration;

use axum::{Json, Router, extract::Path, http::StatusCode, routing::post};
use buttress::{Clock, time_limit::TimeLimitLayer};
use buttress_durable::outbox::{self, Message, Outbox, Relay};
use buttress_durable::saga::{
    self, Barrier, Call, Definition, Direction, Executor, Kind, Passage, SagaId, Status,
};
use buttress_sqlx::{SqliteConfig, SqliteStore};
use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, query, raw_sql};
use tower::{BoxError, service_fn};

const LEASE: Duration = Duration::from_secs(2); // After this time, the work of a killed process can be resumed.
const DRAIN: Duration = Duration::from_secs(2); // The longest wait for open requests at the end.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS stock (item BIGINT PRIMARY KEY, available BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS orders (number BIGINT PRIMARY KEY);
    INSERT INTO stock VALUES (1, 10) ON CONFLICT DO NOTHING;";

#[derive(Serialize, Deserialize)]
struct Order {
    item: i64,
    price: u64,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, provider] =
        arguments.try_into().map_err(|_| "usage: first_durable_service LISTEN PROVIDER")?;

    // 1. The database. This line and its import select it.
    let store = SqliteStore::open(SqliteConfig::new("orders.db")).await?;
    raw_sql(TABLES).execute(store.pool()).await?;

    // 2. The steps. Each recognizes a repetition: by a row of the barrier in its transaction, or by the provider's key.
    let stock = |sql: &'static str| {
        let store = store.clone();
        service_fn(move |call: Call<i64>| {
            let store = store.clone();
            async move {
                let (mut tx, saga) = (store.begin().await?, call.key().saga());
                let passage = match call.key().direction() {
                    Direction::Action => store.action(&mut tx, saga, "reserve").await?,
                    Direction::Undo => store.undo(&mut tx, saga, "reserve").await?,
                };
                if passage == Passage::Proceed
                    && tx.execute(query(sql).bind(*call.request())).await?.rows_affected() == 0
                {
                    return Err("sold out".into()); // Dropping the transaction rolls it back.
                }
                tx.commit().await?;
                Ok::<(), BoxError>(())
            }
        })
    };
    let reserve = "UPDATE stock SET available = available - 1 WHERE item = $1 AND available > 0";
    let release = "UPDATE stock SET available = available + 1 WHERE item = $1";
    let http = reqwest::Client::builder().no_proxy().build()?;
    let send = move |path: &str, key: String, body: Vec<u8>| {
        let sent =
            http.post(format!("{provider}{path}")).header("idempotency-key", key).body(body).send();
        async move { Ok::<(), BoxError>(sent.await?.error_for_status().map(drop)?) }
    };
    let to_bank = send.clone();
    let charge = service_fn(move |call: Call<u64>| {
        to_bank("/charges", call.key().to_string(), call.request().to_string().into_bytes())
    });
    let outbox = Outbox::new(store.clone());
    let (database, messages) = (store.clone(), outbox.clone());
    let place = service_fn(move |call: Call<()>| {
        let (store, outbox) = (database.clone(), messages.clone());
        async move {
            let (saga, number) = (call.key().saga(), i64::try_from(call.key().saga().get())?);
            let mut tx = store.begin().await?;
            if store.action(&mut tx, saga, "place").await? == Passage::Proceed {
                tx.execute(query("INSERT INTO orders VALUES ($1)").bind(number)).await?;
                let message = outbox.message(number.to_string(), format!("order {number} placed"));
                let written = outbox.write(&mut tx, message).await?;
                tx.commit().await?;
                written.committed();
            }
            Ok::<(), BoxError>(())
        }
    });

    // 3. The saga. A failure before the charge releases the reservation. After the charge it only goes forward.
    let status = |error: &BoxError| error.downcast_ref::<reqwest::Error>()?.status();
    let limit = || TimeLimitLayer::after(Duration::from_secs(10));
    let mut order = Definition::<Order>::builder("order", 1).codec(buttress::Json);
    order
        .step("reserve")
        .action(limit(), stock(reserve), |order: &Order, ()| order.item)
        .undo(limit(), stock(release), |order: &Order, (), _| order.item)
        .add();
    order
        .step("charge")
        .kind(Kind::Pivot)
        .action(limit(), charge, |order: &Order, ()| order.price)
        .definite(move |error| status(error) == Some(StatusCode::PAYMENT_REQUIRED)) // declined
        .add();
    order.step("place").kind(Kind::Retryable).action(limit(), place, |_, ()| ()).add();
    let orders = Executor::new(order.build()?, store.clone(), saga::Config::new().lease(LEASE))?;
    orders.keep_recovering(LEASE / 2);

    // 4. The relay publishes each message at least once, with the same id.
    let publisher =
        service_fn(move |message: Message| send("/mails", message.id.to_string(), message.payload));
    let relay = Relay::new(&outbox, publisher, outbox::Config::new().lease(LEASE))?.spawn();

    // 5. The intake. The number of the order is the id of its saga, so a client may repeat its request.
    let answer = |ended: Result<saga::Report, saga::SagaError>| match ended {
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Ok(report) => match (report.status(), report.reason().unwrap_or("cancelled")) {
            (Status::Completed, _) => (StatusCode::CREATED, "placed".to_owned()),
            // The order may be paid. It waits for an operator, who calls `retry` below.
            (Status::Stuck, why) => (StatusCode::ACCEPTED, format!("stuck until run again: {why}")),
            (_, why) => (StatusCode::CONFLICT, why.to_owned()),
        },
    };
    let id = |number: u32| SagaId::new(number.into());
    let (intake, operated) = (orders.clone(), orders.clone());
    let take = async move |Path(number): Path<u32>, Json(order): Json<Order>| {
        answer(async { intake.start_or_attach(id(number), order).await?.await }.await)
    };
    let again = async move |Path(number): Path<u32>| {
        answer(async { operated.retry(id(number)).await?.await }.await)
    };
    let routes = Router::new().route("/orders/{number}", post(take));
    let routes = routes.route("/orders/{number}/retry", post(again)); // For operators: protect this route.
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("http://{}", listener.local_addr()?);
    let stop = || async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    let server = axum::serve(listener, routes).with_graceful_shutdown(stop());
    tokio::select! {
        ended = server.into_future() => ended?,
        () = async { stop().await; Clock::default().sleep(DRAIN).await } => {} // A client may never complete its request.
    }

    // 6. The end, in order: no new requests, then the sagas, the relay, the database.
    orders.shut_down().await?;
    relay.shut_down().await;
    store.close().await;
    Ok(())
}
