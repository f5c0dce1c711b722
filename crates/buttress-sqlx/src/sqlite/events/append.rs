//! Appending, closing streams, and writing snapshots.

use buttress_durable::Answer;
use buttress_durable::event_store::{Appended, NewBatch, Recorded, Snapshot, StreamId, Version};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{EventOp, read};
use crate::error::during;
use crate::events::{Head, Place, Verdict, damaged_version, limit, place, searched, to_read};
use crate::headers;
use crate::number::{changed, signed};
use crate::sqlite::SqliteStore;
use crate::sqlite::rows::bytes_of_id;
use crate::sqlite::values::{Cell, Values};
use crate::sqlite::writer::WriteOp;

const APPENDING: &str = "appending events";

/// Appends in a transaction of the writer.
pub(super) async fn alone(store: &SqliteStore, batch: &NewBatch) -> Verdict {
    store.submit(APPENDING, batch.clone(), |job| WriteOp::Event(EventOp::Append(job))).await
}

/// Appends in the transaction of `connection`. If it returns a refusal, it has written nothing.
pub(super) async fn within(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    batch: &NewBatch,
) -> Verdict {
    append(connection, store.now(), batch).await.map_err(during(APPENDING))?
}

/// Writes the appends of one wave.
pub(in crate::sqlite) async fn write(
    tx: &mut SqliteConnection,
    now: i64,
    ops: Vec<&mut EventOp>,
) -> sqlx::Result<()> {
    for EventOp::Append(job) in ops {
        let verdict = append(tx, now, &job.input).await?;
        job.settle(verdict);
    }
    Ok(())
}

async fn append(tx: &mut SqliteConnection, now: i64, batch: &NewBatch) -> sqlx::Result<Verdict> {
    let head = match head(tx, &batch.stream).await? {
        Ok(head) => head,
        Err(error) => return Ok(Err(error)),
    };
    let recorded = match head {
        Some(head) => match written_before(tx, batch, head).await? {
            Ok(recorded) => recorded,
            Err(error) => return Ok(Err(error)),
        },
        None => Vec::new(),
    };
    let before = match place(batch, head, &recorded) {
        Place::Done(verdict) => return Ok(Ok(verdict)),
        Place::After(before) => before,
    };
    let appended = Appended::new(before, batch.events.len());
    let number = match head {
        Some(head) => {
            sqlx::query("UPDATE buttress_event_stream SET version = ? WHERE number = ?")
                .bind(signed(appended.last.get()))
                .bind(head.number)
                .execute(&mut *tx)
                .await?;
            head.number
        }
        None => {
            let insert = "INSERT INTO buttress_event_stream (stream_kind, stream_id, version) \
                          VALUES (?, ?, ?)";
            let insert = sqlx::query(insert).bind(batch.stream.kind()).bind(batch.stream.id());
            insert.bind(signed(appended.last.get())).execute(&mut *tx).await?.last_insert_rowid()
        }
    };
    insert(tx, now, number, appended.first, batch).await?;
    Ok(Ok(Ok(appended)))
}

async fn insert(
    tx: &mut SqliteConnection,
    now: i64,
    stream: i64,
    first: Version,
    batch: &NewBatch,
) -> sqlx::Result<()> {
    let encoded: Vec<_> =
        batch.events.iter().map(|event| headers::encode(&event.headers)).collect();
    let mut values = Values::new(8);
    for ((version, event), headers) in (first.get()..).zip(&batch.events).zip(&encoded) {
        values.row([
            Cell::Int(stream),
            Cell::Int(signed(version)),
            Cell::Id(event.id.get()),
            Cell::Text(&event.kind),
            Cell::Int(event.schema.into()),
            Cell::Blob(&event.data),
            headers.as_deref().map_or(Cell::Null, Cell::Blob),
            Cell::Int(now),
        ]);
    }
    // SQLite inserts the rows in the order of the subquery, and so gives them ascending positions.
    let sql = "WITH new(stream, version, id, kind, schema, data, headers, recorded_at) AS (VALUES {values}) \
               INSERT INTO buttress_event (stream, version, id, kind, schema, data, headers, recorded_at) \
               SELECT stream, version, id, kind, schema, data, headers, recorded_at \
               FROM new WHERE stream IS NOT NULL";
    values.execute(tx, sql).await.map(drop)
}

/// Reads the row of a stream. The inner error is about a row that cannot be read.
pub(super) async fn head(
    connection: &mut SqliteConnection,
    stream: &StreamId,
) -> sqlx::Result<Answer<Option<Head>>> {
    // With the version of the last event: a smaller one of the stream would fail the whole wave at its constraint.
    let sql = "SELECT number, version, is_closed, \
               (SELECT max(e.version) FROM buttress_event AS e WHERE e.stream = s.number) \
               FROM buttress_event_stream AS s WHERE stream_kind = ? AND stream_id = ?";
    let query = sqlx::query(sql).bind(stream.kind()).bind(stream.id());
    let row = query.fetch_optional(connection).await?;
    let read = |row: SqliteRow| {
        let (head, last) = (Head::read(&row, stream)?, row.try_get::<Option<i64>, _>(3));
        let is_last = last.is_ok_and(|last| last == Some(signed(head.version.get())));
        if is_last { Ok(head) } else { Err(damaged_version(stream)) }
    };
    Ok(row.map(read).transpose())
}

/// Reads the events among which the batch may be already.
async fn written_before(
    tx: &mut SqliteConnection,
    batch: &NewBatch,
    head: Head,
) -> sqlx::Result<Answer<Vec<Recorded>>> {
    let mut found: Option<i64> = None;
    if let (Some((after, through)), Some(first)) = (searched(batch, head), batch.events.first()) {
        let sql = "SELECT min(version) FROM buttress_event \
                   WHERE stream = ? AND version > ? AND version <= ? AND id = ?";
        let query = sqlx::query_scalar(sql).bind(head.number).bind(after).bind(through);
        found = query.bind(bytes_of_id(first.id.get())).fetch_one(&mut *tx).await?;
    }
    match to_read(found) {
        Some(after) => read::events(tx, &batch.stream, after, batch.events.len()).await,
        None => Ok(Ok(Vec::new())),
    }
}

pub(super) async fn archive(store: &SqliteStore, stream: &StreamId) -> Answer<Option<Version>> {
    let mut tx = store.begin().await?;
    let sql = "UPDATE buttress_event_stream SET is_closed = 1 \
               WHERE stream_kind = ? AND stream_id = ? RETURNING version";
    let query = sqlx::query_scalar(sql).bind(stream.kind()).bind(stream.id());
    let version: Option<i64> =
        query.fetch_optional(&mut **tx).await.map_err(during("closing a stream"))?;
    tx.commit().await?;
    Ok(version.map(|version| Version::new(version.unsigned_abs())))
}

pub(super) async fn save(store: &SqliteStore, snapshot: &Snapshot) -> Answer<()> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "INSERT INTO buttress_event_snapshot AS s (stream_kind, stream_id, version, schema, data) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (stream_kind, stream_id) DO UPDATE \
         SET version = excluded.version, schema = excluded.schema, data = excluded.data \
         WHERE s.schema <> excluded.schema OR s.version < excluded.version",
    )
    .bind(snapshot.stream.kind())
    .bind(snapshot.stream.id())
    .bind(signed(snapshot.version.get()))
    .bind(i64::from(snapshot.schema))
    .bind(&snapshot.data)
    .execute(&mut **tx)
    .await
    .map_err(during("saving a snapshot"))?;
    tx.commit().await
}

pub(super) async fn purge(store: &SqliteStore, kind: &str, some: usize) -> Answer<usize> {
    let mut tx = store.begin().await?;
    let sql = "DELETE FROM buttress_event_snapshot WHERE rowid IN \
               (SELECT rowid FROM buttress_event_snapshot WHERE stream_kind = ? LIMIT ?)";
    let query = sqlx::query(sql).bind(kind).bind(limit(some));
    let done = query.execute(&mut **tx).await.map_err(during("purging snapshots"))?;
    tx.commit().await?;
    Ok(changed(done.rows_affected()))
}
