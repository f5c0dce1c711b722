//! A shop that takes orders over HTTP. Each order is a saga: reserve the item, charge the card, place the order.
//! The placed order is announced by a message. The process may be killed at any moment.

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

/// The time after which the work of a killed process can be resumed.
const LEASE: Duration = Duration::from_secs(2);
/// The longest wait for open requests at the end. A client that never completes its request would hold the process.
const DRAIN: Duration = Duration::from_secs(2);

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
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("usage: first_durable_service LISTEN PROVIDER")?;
    let provider = arguments.next().ok_or("the second argument is the URL of the provider")?;

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
        let request = http.post(format!("{provider}{path}")).header("idempotency-key", key);
        let request = request.body(body);
        async move { request.send().await?.error_for_status().map(drop).map_err(BoxError::from) }
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
    let declined = |error: &BoxError| {
        let error = error.downcast_ref::<reqwest::Error>();
        error.is_some_and(|error| error.status() == Some(StatusCode::PAYMENT_REQUIRED))
    };
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
        .definite(declined)
        .add();
    order.step("place").kind(Kind::Retryable).action(limit(), place, |_, ()| ()).add();
    let orders = Executor::new(order.build()?, store.clone(), saga::Config::new().lease(LEASE))?;
    orders.keep_recovering(LEASE / 2);

    // 4. The relay publishes each message at least once, with the same id.
    let publisher =
        service_fn(move |message: Message| send("/mails", message.id.to_string(), message.payload));
    let relay = Relay::new(&outbox, publisher, outbox::Config::new().lease(LEASE))?.spawn();

    // 5. The intake. The number of the order is the id of its saga, so a client may repeat its request.
    let intake = orders.clone();
    let take = async move |Path(number): Path<u32>, Json(order): Json<Order>| {
        let id = SagaId::new(number.into());
        match async { intake.start_or_attach(id, order).await?.await }.await {
            Ok(report) if report.status() == Status::Completed => {
                (StatusCode::CREATED, "placed".to_owned())
            }
            Ok(report) => (StatusCode::CONFLICT, report.reason().unwrap_or("cancelled").to_owned()),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    };
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("http://{}", listener.local_addr()?);
    let stop = || async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    let server = axum::serve(listener, Router::new().route("/orders/{number}", post(take)))
        .with_graceful_shutdown(stop());
    let drained = async {
        stop().await;
        Clock::default().sleep(DRAIN).await;
    };
    tokio::select! { ended = server.into_future() => ended?, () = drained => {} }

    // 6. The end, in order: no new requests, then the sagas, the relay, the database.
    orders.shut_down().await?;
    relay.shut_down().await;
    store.close().await;
    Ok(())
}
