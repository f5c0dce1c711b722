//! Appending, closing streams, and writing snapshots.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    Appended, NewBatch, NewEvent, Recorded, Snapshot, StreamId, Version,
};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use super::read;
use crate::error::during;
use crate::events::{Head, Place, Verdict, damaged_version, limit, place, searched, to_read};
use crate::headers;
use crate::number::{changed, signed};
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query, query_scalar, uuid};

const APPENDING: &str = "appending events";

/// How many times an append begins again because the stream changed between two statements.
const ROUNDS: u32 = 3;

/// Raises the version of a stream that has exactly the expected one.
const RAISE: &str = "UPDATE {s}buttress_event_stream SET version = version + $4 \
     WHERE stream_kind = $2 AND stream_id = $3 AND version = $5 AND NOT is_closed \
     RETURNING number, version - $4 AS before";

/// Creates a stream. Waits for another transaction that creates it.
const CREATE: &str = "INSERT INTO {s}buttress_event_stream (stream_kind, stream_id, version) \
     SELECT $2::text, $3::text, $4::int8 WHERE $5::int8 = 0 ON CONFLICT (stream_kind, stream_id) DO NOTHING \
     RETURNING number, version - $4 AS before";

/// Appends in a separate transaction.
pub(super) async fn alone(store: &PostgresStore, batch: &NewBatch) -> Verdict {
    store
        .bounded(APPENDING, async {
            let mut loan = store.borrow().await?;
            let version = batch.expected.version();
            let done = match version {
                // One statement, which is a transaction.
                Some(version) => write(store, &mut loan, batch, version).await?,
                None => None,
            };
            let verdict = match done {
                Some(appended) => Ok(appended),
                None => {
                    let mut tx = loan.begin().await.map_err(during(APPENDING))?;
                    let verdict = within(store, &mut tx, batch).await?;
                    tx.commit().await.map_err(during(APPENDING))?;
                    verdict
                }
            };
            loan.finish().await?;
            Ok(verdict)
        })
        .await
}

/// Appends in the transaction of `connection`. If it returns a refusal, it has written nothing.
pub(super) async fn within(
    store: &PostgresStore,
    connection: &mut PgConnection,
    batch: &NewBatch,
) -> Verdict {
    for _ in 0..ROUNDS {
        let version = batch.expected.version();
        if let Some(version) = version
            && let Some(appended) = write(store, connection, batch, version).await?
        {
            return Ok(Ok(appended));
        }
        // Without an expected version the lock keeps the stream unchanged until the transaction ends.
        let head = head(store, connection, &batch.stream, version.is_none()).await?;
        let recorded = match head {
            Some(head) => written_before(store, connection, batch, head).await?,
            None => Vec::new(),
        };
        match place(batch, head, &recorded) {
            Place::Done(verdict) => return Ok(verdict),
            Place::After(actual) if version.is_none() => {
                if let Some(appended) = write(store, connection, batch, actual).await? {
                    return Ok(Ok(appended));
                }
            }
            // The stream has got the expected version after the statement that appends.
            Place::After(_) => {}
        }
    }
    let stream = &batch.stream;
    Err(StoreError::transient(format!("{APPENDING}: stream {stream} keeps changing; repeat it")))
}

/// Writes the events if the stream has exactly this version. Returns `None` if it has another, or is closed.
async fn write(
    store: &PostgresStore,
    connection: &mut PgConnection,
    batch: &NewBatch,
    version: Version,
) -> Answer<Option<Appended>> {
    let head = if version == Version::START { CREATE } else { RAISE };
    // The rows are sorted below the identity column, so the sequence has their order.
    let sql = store.sql(&format!(
        "WITH t AS MATERIALIZED (SELECT {{now}} AS now), head AS ({head}), \
         new AS (INSERT INTO {{s}}buttress_event \
                 (stream, version, id, kind, schema, data, headers, recorded_at) \
             SELECT head.number, head.before + e.n, e.id, e.kind, e.schema, e.data, e.headers, t.now \
             FROM head CROSS JOIN t CROSS JOIN \
             unnest($6::uuid[], $7::text[], $8::int8[], $9::bytea[], $10::bytea[]) \
             WITH ORDINALITY AS e(id, kind, schema, data, headers, n) ORDER BY e.n) \
         SELECT before FROM head"
    ));
    let events = &batch.events;
    let column = signed(events.len() as u64);
    let ids: Vec<Uuid> = events.iter().map(|event| uuid(event.id.get())).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let schemas: Vec<i64> = events.iter().map(|event| event.schema.into()).collect();
    let data: Vec<&[u8]> = events.iter().map(|event| event.data.as_slice()).collect();
    let headers: Vec<Option<Vec<u8>>> = events.iter().map(encoded).collect();
    let query = query_scalar::<i64>(sql).bind(store.time()).bind(batch.stream.kind());
    let query = query.bind(batch.stream.id()).bind(column).bind(signed(version.get()));
    let query = query.bind(ids).bind(kinds).bind(schemas).bind(data).bind(headers);
    let before = query.fetch_optional(connection).await.map_err(|error| match &error {
        // The row of the stream is locked, so no other transaction has written this version.
        sqlx::Error::Database(violated) if violated.is_unique_violation() => {
            damaged_version(&batch.stream).with_source(error)
        }
        _ => during(APPENDING)(error),
    })?;
    Ok(before.map(|_| Appended::new(version, events.len())))
}

fn encoded(event: &NewEvent) -> Option<Vec<u8>> {
    headers::encode(&event.headers)
}

/// Reads the row of a stream, and locks it if `lock` is set.
pub(super) async fn head(
    store: &PostgresStore,
    connection: &mut PgConnection,
    stream: &StreamId,
    lock: bool,
) -> Answer<Option<Head>> {
    let sql = store.sql(&format!(
        "SELECT number, version, is_closed FROM {{s}}buttress_event_stream \
         WHERE stream_kind = $1 AND stream_id = $2 {}",
        if lock { "FOR UPDATE" } else { "" }
    ));
    let what = during("reading the state of a stream");
    let query = query(sql).bind(stream.kind()).bind(stream.id());
    let row = query.fetch_optional(connection).await.map_err(what)?;
    row.map(|row| Head::read(&row, stream)).transpose()
}

/// Reads the events among which the batch may be already.
async fn written_before(
    store: &PostgresStore,
    connection: &mut PgConnection,
    batch: &NewBatch,
    head: Head,
) -> Answer<Vec<Recorded>> {
    let mut found = None;
    if let (Some((after, through)), Some(first)) = (searched(batch, head), batch.events.first()) {
        let sql = store.sql(
            "SELECT min(version) FROM {s}buttress_event \
             WHERE stream = $1 AND version > $2 AND version <= $3 AND id = $4",
        );
        let query = query_scalar::<Option<i64>>(sql).bind(head.number).bind(after).bind(through);
        let query = query.bind(uuid(first.id.get()));
        found = query.fetch_one(&mut *connection).await.map_err(during(APPENDING))?;
    }
    match to_read(found) {
        Some(after) => {
            read::events_on(store, connection, &batch.stream, after, batch.events.len()).await
        }
        None => Ok(Vec::new()),
    }
}

pub(super) async fn archive(store: &PostgresStore, stream: &StreamId) -> Answer<Option<Version>> {
    let sql = store.sql(
        "UPDATE {s}buttress_event_stream SET is_closed = true \
         WHERE stream_kind = $1 AND stream_id = $2 RETURNING version",
    );
    let mut loan = store.borrow().await?;
    let query = query_scalar::<i64>(sql).bind(stream.kind()).bind(stream.id());
    let version = query.fetch_optional(&mut *loan).await.map_err(during("closing a stream"))?;
    loan.finish().await?;
    Ok(version.map(|version| Version::new(version.unsigned_abs())))
}

pub(super) async fn save(store: &PostgresStore, snapshot: &Snapshot) -> Answer<()> {
    let sql = store.sql(
        "INSERT INTO {s}buttress_event_snapshot AS s (stream_kind, stream_id, version, schema, data) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (stream_kind, stream_id) DO UPDATE \
         SET version = excluded.version, schema = excluded.schema, data = excluded.data \
         WHERE s.schema <> excluded.schema OR s.version < excluded.version",
    );
    let mut loan = store.borrow().await?;
    let query = query(sql).bind(snapshot.stream.kind()).bind(snapshot.stream.id());
    let query = query.bind(signed(snapshot.version.get())).bind(i64::from(snapshot.schema));
    let query = query.bind(&snapshot.data);
    query.execute(&mut *loan).await.map_err(during("saving a snapshot"))?;
    loan.finish().await
}

pub(super) async fn purge(store: &PostgresStore, kind: &str, some: usize) -> Answer<usize> {
    let sql = store.sql(
        "DELETE FROM {s}buttress_event_snapshot WHERE stream_kind = $1 AND stream_id = ANY (ARRAY ( \
         SELECT stream_id FROM {s}buttress_event_snapshot WHERE stream_kind = $1 LIMIT $2 \
         FOR UPDATE SKIP LOCKED))",
    );
    let mut loan = store.borrow().await?;
    let query = query(sql).bind(kind).bind(limit(some));
    let done = query.execute(&mut *loan).await.map_err(during("purging snapshots"))?;
    loan.finish().await?;
    Ok(changed(done.rows_affected()))
}
