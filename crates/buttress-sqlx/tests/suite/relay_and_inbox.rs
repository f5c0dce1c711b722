//! A relay and a consumer on one SQLite file: a delivery holds a transaction of the file while the lease of the
//! relay ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress_durable::outbox::{
    Config, Inbox, Message, MessageId, NewMessage, Outbox, Receipt, Relay, RelayHandle, Store,
};
use buttress_sqlx::SqliteStore;
use tokio::sync::{Notify, mpsc};
use tower::{BoxError, service_fn};

use crate::db::{Db, SECOND, Sqlite, on_sqlite, rng};

const LEASE: Duration = Duration::from_secs(10);
const MESSAGES: u64 = 3;

/// A consumer that does its work in the transaction of its receipt. Its first delivery holds the transaction until it
/// is released.
struct Consumer {
    began: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
    relay: RelayHandle,
}

impl Consumer {
    fn start(db: &Sqlite) -> Self {
        let (begins, began) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let (store, holds) = (db.store.clone(), Arc::new(AtomicBool::new(true)));
        let released = release.clone();
        let consumer = service_fn(move |message: Message| {
            let (store, begins) = (store.clone(), begins.clone());
            let released = holds.swap(false, Ordering::SeqCst).then(|| released.clone());
            async move {
                let mut tx = store.begin().await?;
                let receipt = store.receive(&mut tx, "mail", message.id).await?;
                begins.send(())?;
                if let Some(released) = released {
                    released.notified().await;
                }
                if receipt == Receipt::First {
                    let effect = sqlx::query("INSERT INTO effects (message) VALUES (?)");
                    effect.bind(message.id.to_string()).execute(&mut **tx).await?;
                }
                tx.commit().await?;
                Ok::<(), BoxError>(())
            }
        });
        let config = Config::new().clock(db.time().clock()).lease(LEASE).max_starts(1);
        let relay = Relay::new(&Outbox::new(db.store.clone()), consumer, config).unwrap().spawn();
        Self { began, release, relay }
    }

    /// Moves the time in small steps until a delivery begins. The relay and the database work in normal time during
    /// each step.
    async fn begins_within(&mut self, db: &Sqlite, limit: Duration) -> bool {
        let step = SECOND / 4;
        for _ in 0..(limit.as_millis() / step.as_millis()) {
            if tokio::time::timeout(SECOND / 10, self.began.recv()).await.is_ok() {
                return true;
            }
            db.time().advance(step);
        }
        false
    }
}

async fn effects(store: &SqliteStore) -> (i64, i64) {
    let counts = "SELECT count(*), count(DISTINCT message) FROM effects";
    sqlx::query_as(counts).fetch_one(store.pool()).await.unwrap()
}

/// Regression: the relay waited for the renewal of its lease, the renewal for the lock of the file, and the paused
/// delivery held the lock: forever. All other writers of the file waited too.
#[tokio::test]
async fn a_relay_continues_although_a_delivery_held_the_file_when_the_lease_ended() {
    on_sqlite(async |db: Sqlite| {
        db.execute("CREATE TABLE effects (message TEXT NOT NULL)").await;
        let messages = (0..MESSAGES)
            .map(|key| NewMessage::new(MessageId::random(&rng()), key.to_string(), "paid"));
        db.write(messages.collect()).await;
        let mut consumer = Consumer::start(&db);
        assert!(consumer.begins_within(&db, 10 * SECOND).await, "the first delivery");
        // The process stops for longer than the lease. Then the first delivery would continue.
        db.time().advance(LEASE + SECOND);
        consumer.release.notify_one();
        assert!(consumer.begins_within(&db, 30 * SECOND).await, "the relay stands still");
        // Another writer of the file.
        let tx = tokio::time::timeout(30 * SECOND, db.store.begin()).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        for _ in 0..100 {
            if consumer.relay.stats().relayed == MESSAGES {
                break;
            }
            consumer.begins_within(&db, SECOND / 4).await;
        }
        let (backlog, stats) = (db.store.backlog().await.unwrap(), consumer.relay.stats());
        assert_eq!((backlog.pending, backlog.dead), (0, 0));
        assert_eq!((stats.relayed, stats.failed, stats.dead), (MESSAGES, 0, 0));
        assert_eq!(effects(&db.store).await, (MESSAGES as i64, MESSAGES as i64));
        consumer.relay.shut_down().await;
    })
    .await;
}
