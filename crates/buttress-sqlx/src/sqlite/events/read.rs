//! Reading streams, the order of all events, and snapshots.

use buttress_durable::Answer;
use buttress_durable::event_store::{
    Filter, Page, Position, Recorded, Snapshot, StoreStats, StreamId, StreamPage, StreamState,
    Version,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite};

use super::append;
use crate::error::during;
use crate::events::{self, EVENT, SIZE, end, largest, limit, through};
use crate::number::signed;
use crate::sqlite::SqliteStore;

pub(super) async fn stream(
    store: &SqliteStore,
    stream: &StreamId,
    after: Version,
    most: usize,
) -> Answer<StreamPage> {
    let mut connection = borrow(store).await?;
    stream_on(store, &mut connection, stream, after, most).await
}

pub(super) async fn stream_on(
    _store: &SqliteStore,
    connection: &mut SqliteConnection,
    stream: &StreamId,
    after: Version,
    most: usize,
) -> Answer<StreamPage> {
    let rows = rows(connection, stream, after, most, largest()).await;
    events::stream_page(&rows.map_err(during("reading a stream"))?, stream, most)
}

/// Reads events of a stream, however large they are. The inner error is about an event that cannot be read.
pub(super) async fn events(
    connection: &mut SqliteConnection,
    stream: &StreamId,
    after: Version,
    most: usize,
) -> sqlx::Result<Answer<Vec<Recorded>>> {
    let rows = rows(connection, stream, after, most, i64::MAX).await?;
    Ok(events::stream(&rows, stream))
}

/// Reads rows of a stream up to the one that brings them to `bytes` bytes.
async fn rows(
    connection: &mut SqliteConnection,
    stream: &StreamId,
    after: Version,
    most: usize,
    bytes: i64,
) -> sqlx::Result<Vec<SqliteRow>> {
    // The sizes come first, because a window over whole rows would copy them.
    let sql = format!(
        "WITH n AS MATERIALIZED (SELECT e.position AS position, {SIZE} AS size FROM buttress_event AS e \
             WHERE e.stream = (SELECT number FROM buttress_event_stream WHERE stream_kind = ?1 AND stream_id = ?2) \
             AND e.version > ?3 ORDER BY e.version LIMIT ?4), \
         b AS MATERIALIZED (SELECT position, size, \
             sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes FROM n) \
         SELECT {EVENT}, b.bytes FROM b CROSS JOIN buttress_event AS e ON e.position = b.position \
         WHERE b.bytes - b.size < ?5 ORDER BY b.position"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(stream.kind()).bind(stream.id());
    let query = query.bind(signed(after.get())).bind(limit(most)).bind(bytes);
    query.fetch_all(connection).await
}

pub(super) async fn head(store: &SqliteStore, stream: &StreamId) -> Answer<Option<StreamState>> {
    let mut connection = borrow(store).await?;
    let head = append::head(&mut connection, stream).await;
    Ok(head.map_err(during("reading the state of a stream"))??.map(events::Head::state))
}

pub(super) async fn all(
    store: &SqliteStore,
    after: Position,
    filter: &Filter,
    most: usize,
) -> Answer<Page> {
    let what = during("reading all events");
    let mut connection = borrow(store).await?;
    let last = last(&mut connection).await.map_err(what)?;
    let end = end(after, last);
    if end <= after.get() {
        return Ok(Page::new(Vec::new(), after, true));
    }
    let (streams, stream_list) = among("s.stream_kind", &filter.streams);
    let (kinds, kind_list) = among("e.kind", &filter.kinds);
    // `CROSS JOIN` keeps SQLite from walking the events of a stream: the order of positions is the one to follow. The
    // sizes come first, because a window over whole rows would copy them.
    let sql = format!(
        "WITH n AS MATERIALIZED (SELECT e.position AS position, {SIZE} AS size FROM buttress_event AS e \
             CROSS JOIN buttress_event_stream AS s ON s.number = e.stream \
             WHERE e.position > ? AND e.position <= ? AND {streams} AND {kinds} \
             ORDER BY e.position LIMIT ?), \
         b AS MATERIALIZED (SELECT position, size, \
             sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS bytes FROM n) \
         SELECT e.position, s.stream_kind, s.stream_id, {EVENT}, b.bytes FROM b \
         CROSS JOIN buttress_event AS e ON e.position = b.position \
         CROSS JOIN buttress_event_stream AS s ON s.number = e.stream \
         WHERE b.bytes - b.size < ? ORDER BY b.position"
    );
    let mut query = sqlx::query::<Sqlite>(AssertSqlSafe(sql)).bind(signed(after.get()));
    query = query.bind(signed(end));
    for text in stream_list.into_iter().chain(kind_list) {
        query = query.bind(text);
    }
    let query = query.bind(limit(most)).bind(largest());
    let rows = query.fetch_all(&mut *connection).await.map_err(what)?;
    let through = through(&rows, most, after, end);
    events::page(&rows, through, through.get() >= last)
}

/// Returns the condition that `column` has one of the `wanted` texts, and its parameter.
fn among(column: &str, wanted: &[String]) -> (String, Option<String>) {
    if wanted.is_empty() {
        return ("TRUE".to_owned(), None);
    }
    // Texts without U+0000 only, so that hexadecimal text separates them: the list is one parameter.
    let list: String = wanted.iter().map(|text| format!("[{}]", hexadecimal(text))).collect();
    (format!("instr(?, '[' || hex({column}) || ']') > 0"), Some(list))
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

/// Returns the last position.
async fn last(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let sql = "SELECT coalesce(max(position), 0) FROM buttress_event";
    let last: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
    Ok(last.unsigned_abs())
}

pub(super) async fn stats(store: &SqliteStore) -> Answer<StoreStats> {
    let mut connection = borrow(store).await?;
    let last = last(&mut connection).await.map_err(during("counting events"))?;
    Ok(StoreStats::new(last.into()))
}

pub(super) async fn snapshot(store: &SqliteStore, stream: &StreamId) -> Answer<Option<Snapshot>> {
    let mut connection = borrow(store).await?;
    snapshot_on(store, &mut connection, stream).await
}

pub(super) async fn snapshot_on(
    _store: &SqliteStore,
    connection: &mut SqliteConnection,
    stream: &StreamId,
) -> Answer<Option<Snapshot>> {
    let sql = "SELECT version, schema, data FROM buttress_event_snapshot \
               WHERE stream_kind = ? AND stream_id = ?";
    let query = sqlx::query(sql).bind(stream.kind()).bind(stream.id());
    let row = query.fetch_optional(connection).await.map_err(during("loading a snapshot"))?;
    row.map(|row| events::snapshot(&row, stream)).transpose()
}

async fn borrow(store: &SqliteStore) -> Answer<sqlx::pool::PoolConnection<Sqlite>> {
    store.pool().acquire().await.map_err(during("connecting"))
}
