//! hexeract's outbox worker on SQLite.

use std::time::{Duration, Instant};

use hexeract::core::HandlerContext;
use hexeract::outbox::{Event, Handler, OutboxError, OutboxPublisher};
use hexeract::outbox_sql::sqlite::{
    SqliteOutboxPublisher, SqliteOutboxWorkerBuilder, ensure_schema,
};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::BATCH;
use super::folder::Folder;
use super::order::{KEYS, Publisher, messages};

const TABLE: &str = "outbox";

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    payload: String,
}

impl Event for Told {
    const EVENT_TYPE: &'static str = "told";
}

/// Checks the order as buttress's publisher does.
struct Looks(Publisher);

impl Handler<Told> for Looks {
    type Error = OutboxError;

    async fn handle(&self, event: Told, _: &HandlerContext) -> Result<(), OutboxError> {
        self.0.take(event.payload.as_bytes());
        Ok(())
    }
}

/// Returns how many of `count` messages its worker published per second, and how many out of order.
pub async fn rate(count: u64) -> (f64, u64) {
    let folder = Folder::new();
    let options = SqliteConnectOptions::new()
        .filename(folder.file("outbox.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options);
    let pool = pool.await.expect("a new file");
    ensure_schema(&pool, TABLE).await.expect("a new table");
    let outbox = SqliteOutboxPublisher::new(pool.clone(), TABLE).expect("a good name");
    let mut tx = pool.begin().await.expect("it may write");
    for (at, (_, payload)) in (0..).zip(messages(count)) {
        // The numbers in a payload are small, so the payload is also text.
        let told = Told { payload: String::from_utf8(payload).expect("text") };
        let subject = Uuid::from_u128(at % u128::from(KEYS));
        outbox.publish_in_tx_with_subject(&mut tx, subject, &told).await.expect("room");
    }
    tx.commit().await.expect("committed");

    let (publisher, stop) = (Publisher::new(), CancellationToken::new());
    let worker = SqliteOutboxWorkerBuilder::new(pool.clone())
        .table_name(TABLE)
        .batch_size(BATCH)
        .register_handler::<Told, _>(Looks(publisher.clone()))
        .build()
        .expect("valid");
    let began = Instant::now();
    let worker = tokio::spawn(worker.run(stop.clone()));
    while publisher.in_order() + publisher.out_of_order() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let each = count as f64 / began.elapsed().as_secs_f64();
    stop.cancel();
    worker.await.expect("the worker ends").expect("in order");
    pool.close().await;
    (each, publisher.out_of_order())
}
