//! Reading streams, the order of all events, and snapshots.

use buttress_durable::Answer;
use buttress_durable::event_store::{
    Filter, Page, Position, Recorded, Snapshot, StreamId, StreamPage, StreamState, Version,
};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::order::Ordering;
use super::{append, order};
use crate::error::during;
use crate::events::{self, EVENT, SIZE, end, largest, limit, through};
use crate::number::signed;
use crate::postgres::PostgresStore;
use crate::postgres::rows::query;

pub(super) use super::order::stats;

pub(super) async fn stream(
    store: &PostgresStore,
    stream: &StreamId,
    after: Version,
    most: usize,
) -> Answer<StreamPage> {
    let mut loan = store.borrow().await?;
    let page = stream_on(store, &mut loan, stream, after, most).await?;
    loan.finish().await?;
    Ok(page)
}

pub(super) async fn stream_on(
    store: &PostgresStore,
    connection: &mut PgConnection,
    stream: &StreamId,
    after: Version,
    most: usize,
) -> Answer<StreamPage> {
    let rows = rows(store, connection, stream, after, most, largest()).await?;
    events::stream_page(&rows, stream, most)
}

/// Reads events of a stream, however large they are.
pub(super) async fn events_on(
    store: &PostgresStore,
    connection: &mut PgConnection,
    stream: &StreamId,
    after: Version,
    most: usize,
) -> Answer<Vec<Recorded>> {
    let rows = rows(store, connection, stream, after, most, i64::MAX).await?;
    events::stream(&rows, stream)
}

/// Reads rows of a stream up to the one that brings them to `bytes` bytes.
async fn rows(
    store: &PostgresStore,
    connection: &mut PgConnection,
    stream: &StreamId,
    after: Version,
    most: usize,
    bytes: i64,
) -> Answer<Vec<PgRow>> {
    let sql = store.sql(&format!(
        "SELECT * FROM (SELECT {EVENT}, \
             sum({SIZE}) OVER (ORDER BY e.version ROWS UNBOUNDED PRECEDING) AS bytes, {SIZE} AS size \
             FROM {{s}}buttress_event AS e WHERE e.stream = \
             (SELECT number FROM {{s}}buttress_event_stream WHERE stream_kind = $1 AND stream_id = $2) \
             AND e.version > $3 ORDER BY e.version LIMIT $4) AS q \
         WHERE q.bytes - q.size < $5 ORDER BY q.version"
    ));
    let query = query(sql).bind(stream.kind()).bind(stream.id());
    let query = query.bind(signed(after.get())).bind(limit(most)).bind(bytes);
    query.fetch_all(connection).await.map_err(during("reading a stream"))
}

pub(super) async fn head(store: &PostgresStore, stream: &StreamId) -> Answer<Option<StreamState>> {
    let mut loan = store.borrow().await?;
    let head = append::head(store, &mut loan, stream, false).await?;
    loan.finish().await?;
    Ok(head.map(events::Head::state))
}

pub(super) async fn all(
    store: &PostgresStore,
    after: Position,
    filter: &Filter,
    most: usize,
) -> Answer<Page> {
    let what = during("reading all events");
    let Ordering { last, is_complete } =
        order::counter(store, after.plus(most as u64).get()).await?;
    let end = end(after, last);
    if end <= after.get() {
        // A server that does not know the position `after` lags behind the one that the reader has read before.
        return Ok(Page::new(Vec::new(), after, is_complete && last >= after.get()));
    }
    // The last position is read again in the same statement. The page may come from another server than the one above:
    // a replica that is behind it, or its successor.
    // Rows are looked up one by one: a planner without statistics of the last minute must not join whole tables.
    let sql = store.sql(&format!(
        "SELECT p.*, c.last FROM {{s}}buttress_event_counter AS c LEFT JOIN LATERAL (SELECT * FROM ( \
         SELECT o.position, s.stream_kind, s.stream_id, {EVENT}, \
         sum({SIZE}) OVER (ORDER BY o.position ROWS UNBOUNDED PRECEDING) AS bytes, {SIZE} AS size \
         FROM {{s}}buttress_event_order AS o \
         CROSS JOIN LATERAL (SELECT * FROM {{s}}buttress_event WHERE sequence = o.sequence OFFSET 0) AS e \
         CROSS JOIN LATERAL (SELECT * FROM {{s}}buttress_event_stream WHERE number = e.stream OFFSET 0) AS s \
         WHERE o.position > $1 AND o.position <= least($2, c.last) \
         AND (cardinality($3::text[]) = 0 OR s.stream_kind = ANY ($3)) \
         AND (cardinality($4::text[]) = 0 OR e.kind = ANY ($4)) ORDER BY o.position LIMIT $5) AS q \
         WHERE q.bytes - q.size < $6) AS p ON true ORDER BY p.position"
    ));
    let mut loan = store.borrow().await?;
    let query = query(sql).bind(signed(after.get())).bind(signed(end));
    let query = query.bind(&filter.streams).bind(&filter.kinds).bind(limit(most)).bind(largest());
    let mut rows = query.fetch_all(&mut *loan).await.map_err(what)?;
    loan.finish().await?;
    let seen: i64 = rows.first().map_or(Ok(0), |row| row.try_get(12)).map_err(what)?;
    let end = end.min(seen.unsigned_abs());
    // Without a matching event there is one row, which has the last position only.
    rows.retain(|row| row.try_get::<Option<i64>, _>(0).is_ok_and(|position| position.is_some()));
    let through = through(&rows, most, after, end);
    events::page(&rows, through, is_complete && through.get() >= last.max(seen.unsigned_abs()))
}

pub(super) async fn snapshot(store: &PostgresStore, stream: &StreamId) -> Answer<Option<Snapshot>> {
    let mut loan = store.borrow().await?;
    let snapshot = snapshot_on(store, &mut loan, stream).await?;
    loan.finish().await?;
    Ok(snapshot)
}

pub(super) async fn snapshot_on(
    store: &PostgresStore,
    connection: &mut PgConnection,
    stream: &StreamId,
) -> Answer<Option<Snapshot>> {
    let sql = store.sql(
        "SELECT version, schema, data FROM {s}buttress_event_snapshot \
         WHERE stream_kind = $1 AND stream_id = $2",
    );
    let query = query(sql).bind(stream.kind()).bind(stream.id());
    let row = query.fetch_optional(connection).await.map_err(during("loading a snapshot"))?;
    row.map(|row| events::snapshot(&row, stream)).transpose()
}
