//! Appends on PostgreSQL, beside a plain insert and a locked counter row.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use buttress_durable::event_store::{Batch, Config, Effects, Log, Projection, Store};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::types::Uuid;
use tower::{BoxError, service_fn};

use crate::aggregate::appends;
use crate::bench::{Append, Error, WRITERS, age, data, median, p99, write};
use crate::loading;

/// The schema of a run. It is dropped before and after.
const SCHEMA: &str = "buttress_event_store_bench";

/// The columns and indexes of a hand-written store without an order.
const TABLES: &str = "
CREATE TABLE {s}.plain (sequence int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream int8 NOT NULL,
    version int8 NOT NULL, id uuid NOT NULL, kind text NOT NULL, schema int8 NOT NULL, data bytea NOT NULL,
    headers bytea, recorded_at int8 NOT NULL, UNIQUE (stream, version));
CREATE TABLE {s}.counted (position int8 PRIMARY KEY, stream int8 NOT NULL,
    version int8 NOT NULL, id uuid NOT NULL, kind text NOT NULL, schema int8 NOT NULL, data bytea NOT NULL,
    headers bytea, recorded_at int8 NOT NULL, UNIQUE (stream, version));
CREATE TABLE {s}.counter (last int8 NOT NULL);
INSERT INTO {s}.counter VALUES (0)";

const PLAIN: &str = "INSERT INTO {s}.plain (stream, version, id, kind, schema, data, recorded_at) \
     VALUES ($1, $2, $3, 'order.placed', 1, $4, (extract(epoch from clock_timestamp()) * 1e9)::int8)";

/// The row of the counter is locked until the commit, so positions are in the order of commits.
const COUNTED: &str = "WITH c AS (UPDATE {s}.counter SET last = last + 1 RETURNING last) \
     INSERT INTO {s}.counted (position, stream, version, id, kind, schema, data, recorded_at) \
     SELECT last, $1, $2, $3, 'order.placed', 1, $4, (extract(epoch from clock_timestamp()) * 1e9)::int8 FROM c";

/// The oldest server that every candidate runs on.
const OLDEST: i32 = 160_000;

/// What the server is, and how durable its commits are.
pub struct Server {
    pub version: String,
    pub fsync: String,
    pub synchronous_commit: String,
}

/// The medians of the rounds, in appends per second.
pub struct Found {
    pub plain: f64,
    pub counted: f64,
    pub ours: f64,
    /// Appends without a projection that follows.
    pub alone: f64,
    /// Milliseconds from the call of an append to the handler of a projection, 99 of 100.
    pub lag: f64,
}

fn sql(text: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(text.replace("{s}", SCHEMA))
}

/// A pool for statements by hand.
pub async fn pool(url: &str) -> Result<PgPool, Error> {
    let most = u32::try_from(WRITERS)?;
    Ok(PgPoolOptions::new().max_connections(most).min_connections(most).connect(url).await?)
}

pub async fn drop_schema(pool: &PgPool) -> Result<(), Error> {
    sqlx::raw_sql(sql("DROP SCHEMA IF EXISTS {s} CASCADE")).execute(pool).await?;
    Ok(())
}

/// A store in the schema of the run.
pub async fn open(url: &str) -> Result<PostgresStore, Error> {
    let connections = u32::try_from(WRITERS)? + 4;
    let config = PostgresConfig::new(url).schema(SCHEMA).connections(connections);
    Ok(PostgresStore::open(config).await?)
}

async fn by_hand(pool: &PgPool, text: &'static str, streams: u64) -> Result<f64, Error> {
    let (pool, begun) = (pool.clone(), Instant::now());
    let insert = Arc::new(text.replace("{s}", SCHEMA));
    write(streams, move |Append { stream, version, id }| {
        let (pool, insert) = (pool.clone(), insert.clone());
        async move {
            let query = sqlx::query(AssertSqlSafe(insert));
            let query = query.bind(i64::try_from(stream)?).bind(i64::try_from(version)?);
            query.bind(Uuid::from_u128(id)).bind(data(begun)).execute(&pool).await?;
            Ok(())
        }
    })
    .await
}

/// Appends without a projection that follows.
async fn alone(url: &str, streams: u64) -> Result<f64, Error> {
    let store = open(url).await?;
    let rate = appends(Log::new(store.clone()), Instant::now(), streams).await?;
    store.close().await;
    Ok(rate)
}

/// Appends, while projections of two processes follow. Returns the rate, and the 99th percentile of the lag.
async fn ours(url: &str, streams: u64, round: usize) -> Result<(f64, f64), Error> {
    let (store, elsewhere) = (open(url).await?, open(url).await?);
    let (log, begun) = (Log::new(store.clone()), Instant::now());
    let lags: Arc<Mutex<Vec<f64>>> = Arc::default();
    let seen = lags.clone();
    let here = service_fn(move |batch: Batch<()>| {
        let ages = batch.events().iter().map(|one| age(begun, &one.event.data));
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(ages);
        std::future::ready(Ok::<_, BoxError>(batch))
    });
    let there = service_fn(|batch: Batch<()>| std::future::ready(Ok::<_, BoxError>(batch)));
    // New projections of each round, which begin after the events of earlier rounds.
    let config = || Config::new().effects(Effects::Live);
    let here = Projection::new(format!("here-{round}"), &log, here, config())?.spawn();
    let other = Log::new(elsewhere.clone());
    let there = Projection::new(format!("there-{round}"), &other, there, config())?.spawn();
    while !(here.stats().is_leased && there.stats().is_leased) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = appends(log, begun, streams).await?;
    // Until both have handled every event, so that the slowest events count too, and the next round begins without them.
    loop {
        let stats = store.event_stats().await?;
        let is_behind = |seen: u64| seen < stats.last || !stats.unsequenced_age.is_zero();
        if !is_behind(here.stats().checkpoint.min(there.stats().checkpoint)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    here.shut_down().await;
    there.shut_down().await;
    store.close().await;
    elsewhere.close().await;
    let mut lags = std::mem::take(&mut *lags.lock().unwrap_or_else(PoisonError::into_inner));
    if lags.len() < 1000 {
        return Err(format!("the projection has seen {} events only", lags.len()).into());
    }
    Ok((rate, p99(&mut lags)))
}

/// The settings of the server that decide when a commit is durable.
pub async fn server(url: &str) -> Result<Server, Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    let settings = "SELECT current_setting('server_version'), current_setting('server_version_num')::int4, \
                    current_setting('fsync'), current_setting('synchronous_commit')";
    let (version, number, fsync, synchronous_commit): (_, i32, _, _) =
        sqlx::query_as(settings).fetch_one(&pool).await?;
    pool.close().await;
    if number < OLDEST {
        return Err(
            format!("PostgreSQL {version}: disintegrate's tables need PostgreSQL 16").into()
        );
    }
    Ok(Server { version, fsync, synchronous_commit })
}

pub async fn measure(url: &str, rounds: usize) -> Result<Found, Error> {
    let pool = pool(url).await?;
    drop_schema(&pool).await?;
    open(url).await?.close().await;
    sqlx::raw_sql(sql(TABLES)).execute(&pool).await?;
    let (mut plain, mut counted) = (Vec::new(), Vec::new());
    let (mut rates, mut lags, mut unfollowed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let streams = round as u64 * 1_000_000;
        plain.push(by_hand(&pool, PLAIN, streams).await?);
        let (rate, lag) = ours(url, streams, round).await?;
        rates.push(rate);
        lags.push(lag);
        counted.push(by_hand(&pool, COUNTED, streams).await?);
    }
    // After all rounds, because no projection gives these events an order.
    for round in 0..rounds {
        unfollowed.push(alone(url, (rounds + round) as u64 * 1_000_000).await?);
    }
    drop_schema(&pool).await?;
    pool.close().await;
    let (plain, counted) = (median(&plain), median(&counted));
    let alone = median(&unfollowed);
    Ok(Found { plain, counted, ours: median(&rates), alone, lag: median(&lags) })
}

/// Measures loads of 100 events.
pub async fn loads(url: &str, rounds: usize) -> Result<loading::Found, Error> {
    let pool = pool(url).await?;
    drop_schema(&pool).await?;
    let store = open(url).await?;
    let found = loading::postgres(store.clone(), pool.clone(), rounds).await;
    store.close().await;
    drop_schema(&pool).await?;
    pool.close().await;
    found
}
