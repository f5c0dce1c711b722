//! Loads of 100 events, beside the same query by hand.

use std::future::Future;
use std::time::Instant;

use buttress::Json;
use buttress_durable::event_store::{
    Expected, Log, NewBatch, NewEvent, Repository, Store, StreamId,
};
use buttress_durable::outbox::MessageId;
use buttress_sqlx::{PostgresStore, SqliteStore};
use sqlx::{PgPool, SqlitePool};

use crate::aggregate::{Added, Sum};
use crate::bench::{Error, median};

/// Events of a stream.
const EVENTS: u64 = 100;
const STREAMS: u64 = 100;
/// Loads of a round.
const LOADS: u64 = 2_000;

/// Microseconds per load: by hand, and of a repository.
pub struct Found {
    pub raw: f64,
    pub ours: f64,
}

async fn fill(store: &impl Store) -> Result<(), Error> {
    for stream in 0..STREAMS {
        let event = |number: u64| {
            let id = MessageId::new(u128::from(stream) << 96 | u128::from(number));
            let data = serde_json::to_vec(&Added::new(number))?;
            Ok::<_, Error>(NewEvent::new(id, "sum.added", data))
        };
        let events: Result<Vec<_>, Error> = (0..EVENTS).map(event).collect();
        let stream = StreamId::new("sum", stream.to_string());
        store.append_batch(&NewBatch::new(stream, Expected::New, events?)).await?;
    }
    Ok(())
}

async fn time<F: Future<Output = Result<u64, Error>>>(
    load: impl Fn(String) -> F,
) -> Result<f64, Error> {
    let begun = Instant::now();
    for number in 0..LOADS {
        let total = load((number % STREAMS).to_string()).await?;
        if total != (0..EVENTS).sum::<u64>() {
            return Err(format!("a load with the sum {total}").into());
        }
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / LOADS as f64)
}

/// Reads the columns that an event of a store has, and the sum of the events.
macro_rules! by_hand {
    ($name:ident, $pool:ty, $id:ty, $sql:literal) => {
        async fn $name(pool: $pool, id: String) -> Result<u64, Error> {
            type Row = (i64, $id, String, i64, Vec<u8>, Option<Vec<u8>>, i64);
            let rows: Vec<Row> = sqlx::query_as($sql).bind("sum").bind(id).fetch_all(&pool).await?;
            let mut sum = Sum::default();
            for (_, _, _, _, data, _, _) in &rows {
                let event: Added = serde_json::from_slice(data)?;
                buttress_durable::event_store::Aggregate::apply(&mut sum, &event);
            }
            Ok(sum.total)
        }
    };
}

by_hand!(
    on_postgres,
    PgPool,
    sqlx::types::Uuid,
    "SELECT version, id, kind, schema, data, headers, recorded_at \
     FROM buttress_event_store_bench.buttress_event WHERE stream = \
     (SELECT number FROM buttress_event_store_bench.buttress_event_stream \
      WHERE stream_kind = $1 AND stream_id = $2) ORDER BY version"
);
by_hand!(
    on_sqlite,
    SqlitePool,
    Vec<u8>,
    "SELECT version, id, kind, schema, data, headers, recorded_at FROM buttress_event WHERE stream = \
     (SELECT number FROM buttress_event_stream WHERE stream_kind = ? AND stream_id = ?) ORDER BY version"
);

async fn beside<St, P, F>(
    store: St,
    pool: P,
    raw: impl Fn(P, String) -> F,
    rounds: usize,
) -> Result<Found, Error>
where
    St: Store,
    P: Clone,
    F: Future<Output = Result<u64, Error>>,
{
    fill(&store).await?;
    let sums = Repository::<Sum, _, _>::new(&Log::new(store), Json);
    let (mut by_hand, mut ours) = (Vec::new(), Vec::new());
    // The first round warms both up.
    for round in 0..=rounds {
        let raw = time(|id| raw(pool.clone(), id)).await?;
        let of_store = time(|id| {
            let sums = sums.clone();
            async move { Ok(sums.load(&id).await?.state.total) }
        });
        let of_store = of_store.await?;
        if round > 0 {
            by_hand.push(raw);
            ours.push(of_store);
        }
    }
    Ok(Found { raw: median(&by_hand), ours: median(&ours) })
}

pub async fn postgres(store: PostgresStore, pool: PgPool, rounds: usize) -> Result<Found, Error> {
    beside(store, pool, on_postgres, rounds).await
}

pub async fn sqlite(store: SqliteStore, pool: SqlitePool, rounds: usize) -> Result<Found, Error> {
    beside(store, pool, on_sqlite, rounds).await
}
