//! Appends and projections on SQLite, with `synchronous = FULL`.

use std::path::Path;
use std::time::Instant;

use buttress_durable::event_store::{
    Batch, Config, Expected, Log, NewBatch, Projection, Store, StreamId,
};
use buttress_sqlx::{SqliteConfig, SqliteStore, SqliteTransaction, Synchronous};
use tower::{BoxError, service_fn};

use crate::aggregate::{appends, event};
use crate::bench::{Error, data, median};
use crate::loading;

/// Events that a projection handles in a round.
const EVENTS: u64 = 50_000;

/// The medians of the rounds.
pub struct Found {
    /// Appends per second.
    pub appends: f64,
    /// Events per second of a projection.
    pub projected: f64,
    pub loads: loading::Found,
}

async fn open(folder: &Path, name: &str) -> Result<SqliteStore, Error> {
    let config = SqliteConfig::new(folder.join(name)).synchronous(Synchronous::Full);
    Ok(SqliteStore::open(config).await?)
}

/// Follows the events with a handler that writes a row per event, in the transaction of the checkpoint.
async fn project(store: &SqliteStore, round: usize) -> Result<f64, Error> {
    let mut tx = store.begin().await?;
    let table =
        "CREATE TABLE IF NOT EXISTS list (stream TEXT PRIMARY KEY, version INTEGER) WITHOUT ROWID";
    sqlx::query(table).execute(&mut **tx).await?;
    tx.commit().await?;
    let handler = service_fn(|mut batch: Batch<SqliteTransaction>| async move {
        let (tx, events) = batch.parts();
        for ordered in events {
            let upsert = "INSERT INTO list VALUES (?1, ?2) ON CONFLICT DO UPDATE SET version = ?2";
            let upsert = sqlx::query(upsert).bind(ordered.event.stream.id());
            let version = i64::try_from(ordered.event.version.get())?;
            upsert.bind(version).execute(&mut ***tx).await?;
        }
        Ok::<_, BoxError>(batch)
    });
    let log = Log::new(store.clone());
    let begun = Instant::now();
    let list = Projection::new(format!("list-{round}"), &log, handler, Config::new())?;
    let list = list.in_transaction().spawn();
    while list.stats().checkpoint < EVENTS {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let rate = EVENTS as f64 / begun.elapsed().as_secs_f64();
    list.shut_down().await;
    Ok(rate)
}

async fn fill(store: &SqliteStore) -> Result<(), Error> {
    let begun = Instant::now();
    for batch in 0..EVENTS / 1000 {
        let events =
            (0..1000).map(|number| event(u128::from(batch * 1000 + number + 1), data(begun)));
        let stream = StreamId::new("order", format!("{batch}"));
        store.append_batch(&NewBatch::new(stream, Expected::New, events.collect())).await?;
    }
    Ok(())
}

async fn measure_in(folder: &Path, rounds: usize) -> Result<Found, Error> {
    let (written, followed) =
        (open(folder, "written.db").await?, open(folder, "followed.db").await?);
    fill(&followed).await?;
    let (mut rates, mut projected) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        rates.push(
            appends(Log::new(written.clone()), Instant::now(), round as u64 * 1_000_000).await?,
        );
        projected.push(project(&followed, round).await?);
    }
    let loaded = open(folder, "loaded.db").await?;
    let loads = loading::sqlite(loaded.clone(), loaded.pool().clone(), rounds).await?;
    for store in [written, followed, loaded] {
        store.close().await;
    }
    Ok(Found { appends: median(&rates), projected: median(&projected), loads })
}

pub async fn measure(rounds: usize) -> Result<Found, Error> {
    let folder = std::env::temp_dir().join(format!("buttress-event-stores-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let found = measure_in(&folder, rounds).await;
    std::fs::remove_dir_all(&folder)?;
    found
}
