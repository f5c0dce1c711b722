//! Event stores between the traits and the tables.

mod append;
mod projection;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    NewEvent, Ordered, Page, Position, Recorded, Snapshot, StreamId, StreamPage, Unreadable,
    Version,
};
use buttress_durable::outbox::MessageId;

use crate::columns::Columns;
use crate::headers;
use crate::number::signed;
use crate::time::duration;

#[cfg(feature = "sqlite")]
pub(crate) use append::Refused;
pub(crate) use append::{Head, Place, Verdict, answer, damaged_version, place, searched, to_read};
pub(crate) use projection::{
    Owner, Turn, check_name, check_swap, not_moved, refuse_return, state, turn,
};

/// The columns of an event behind the columns of its stream. [`recorded`] reads them.
pub(crate) const EVENT: &str =
    "e.version, e.id, e.kind, e.schema, e.data, e.headers, e.recorded_at";

/// The bytes of an event that count for [`Page::LARGEST`], without reading them.
pub(crate) const SIZE: &str = "length(e.data) + coalesce(length(e.headers), 0)";

/// How many positions one page examines at most, so that a filter that matches nothing ends too.
pub(crate) const WINDOW: u64 = 20_000;

/// How many snapshots one transaction of a purge removes.
pub(crate) const PURGE_BATCH: usize = 2000;

/// Reads the columns [`EVENT`] from column `at` on.
fn recorded<R: Columns>(row: &R, at: usize, stream: StreamId) -> Result<Recorded, String> {
    let wrong = |error: sqlx::Error| error.to_string();
    let version = row.int(at).map_err(wrong)?;
    let of_stream = u64::try_from(version).ok().filter(|version| *version > 0);
    let of_stream = of_stream.ok_or_else(|| format!("the version {version}"))?;
    let id = MessageId::new(row.id(at + 1).map_err(wrong)?);
    let (kind, data) = (row.text(at + 2).map_err(wrong)?, row.bytes(at + 4).map_err(wrong)?);
    let schema = row.int(at + 3).map_err(wrong)?;
    let schema = u32::try_from(schema).map_err(|_| format!("the schema {schema}"))?;
    let encoded = row.bytes_or_null(at + 5).map_err(wrong)?;
    let mut event = NewEvent::new(id, kind, data).schema(schema);
    event.headers = headers::decode(encoded.as_deref()).ok_or("its headers cannot be read")?;
    let recorded_at = duration(row.int(at + 6).map_err(wrong)?);
    Ok(Recorded::new(stream, Version::new(of_stream), event, recorded_at))
}

/// Reads events of a stream: rows of the columns [`EVENT`].
pub(crate) fn stream<R: Columns>(rows: &[R], stream: &StreamId) -> Answer<Vec<Recorded>> {
    let read = |row: &R| {
        recorded(row, 0, stream.clone()).map_err(|error| {
            let (version, kind) = (row.int(0).unwrap_or_default(), row.text(2).unwrap_or_default());
            let what = format!("stream {stream}, version {version}, kind {kind}: {error}");
            StoreError::corrupt(what)
        })
    };
    rows.iter().map(read).collect()
}

/// Reads a page of a stream: rows of the columns [`EVENT`], and the bytes of the page up to each row.
pub(crate) fn stream_page<R: Columns>(
    rows: &[R],
    stream: &StreamId,
    limit: usize,
) -> Answer<StreamPage> {
    let bytes = rows.last().and_then(|row| row.int(7).ok()).unwrap_or_default();
    let is_end = rows.len() < limit && bytes < largest();
    Ok(StreamPage::new(self::stream(rows, stream)?, is_end))
}

/// Reads a page: rows of position, kind and id of the stream, and the columns [`EVENT`]. `through` is the last
/// examined position, if all rows can be read, and `is_end` says whether there is no event after it.
pub(crate) fn page<R: Columns>(rows: &[R], through: Position, is_end: bool) -> Answer<Page> {
    let mut page = Page::new(Vec::with_capacity(rows.len()), through, is_end);
    for row in rows {
        match ordered(row) {
            Ok(event) => page.events.push(event),
            Err(error) if page.events.is_empty() => {
                return Err(unreadable(row, error));
            }
            Err(_) => {
                let before = row.int(0).ok().and_then(|position| u64::try_from(position).ok());
                let last = page.events.last().map_or(Position::START, |event| event.position);
                let before = before.map_or(last, |before| before.saturating_sub(1).into());
                page.through = before.max(last);
                page.is_end = false;
                break;
            }
        }
    }
    Ok(page)
}

/// Returns the error of an event that cannot be read.
fn unreadable<R: Columns>(row: &R, error: String) -> StoreError {
    let number = |at| row.int(at).ok().and_then(|number| u64::try_from(number).ok());
    let text = |at| row.text(at).unwrap_or_default();
    let (position, kind) = (number(0).unwrap_or_default(), text(5));
    let stream = StreamId::new(text(1), text(2));
    let what = format!("position {position}, stream {stream}, kind {kind}: {error}");
    // Without a position a projection cannot skip the event.
    if position == 0 {
        return StoreError::corrupt(what);
    }
    let event = Unreadable::new(position.into(), stream, error);
    let version = Version::new(number(3).unwrap_or_default());
    StoreError::corrupt(what).with_source(event.event(version, kind))
}

fn ordered<R: Columns>(row: &R) -> Result<Ordered, String> {
    let wrong = |error: sqlx::Error| error.to_string();
    let position = row.int(0).map_err(wrong)?;
    let position = u64::try_from(position).map_err(|_| format!("the position {position}"))?;
    let stream = StreamId::new(row.text(1).map_err(wrong)?, row.text(2).map_err(wrong)?);
    Ok(Ordered::new(Position::new(position), recorded(row, 3, stream)?))
}

/// Returns the last position that a page after `after` examines, of a store with the last position `last`.
pub(crate) fn end(after: Position, last: u64) -> u64 {
    after.plus(WINDOW).get().min(last)
}

/// Returns the last examined position of a page with `rows`, which examined positions up to `end`. The column behind those
/// of the event has the bytes of the page up to a row.
pub(crate) fn through<R: Columns>(rows: &[R], limit: usize, after: Position, end: u64) -> Position {
    let bytes = rows.last().and_then(|row| row.int(10).ok()).unwrap_or_default();
    let is_full = rows.len() >= limit || bytes >= largest();
    let last = rows.last().filter(|_| is_full);
    match last.and_then(|row| row.int(0).ok()).and_then(|last| u64::try_from(last).ok()) {
        Some(last) => Position::new(last),
        None if limit == 0 => after,
        None => after.max(end.into()),
    }
}

/// [`Page::LARGEST`] as SQL takes it.
pub(crate) fn largest() -> i64 {
    limit(Page::LARGEST)
}

/// Reads a snapshot: version, schema and data.
pub(crate) fn snapshot<R: Columns>(row: &R, stream: &StreamId) -> Answer<Snapshot> {
    let wrong = |error: String| StoreError::corrupt(format!("snapshot of {stream}: {error}"));
    let unreadable = |error: sqlx::Error| wrong(error.to_string());
    let (version, schema) = (row.int(0).map_err(unreadable)?, row.int(1).map_err(unreadable)?);
    let version = u64::try_from(version).map_err(|_| wrong(format!("the version {version}")))?;
    let schema = u32::try_from(schema).map_err(|_| wrong(format!("the schema {schema}")))?;
    let data = row.bytes(2).map_err(unreadable)?;
    Ok(Snapshot::new(stream.clone(), Version::new(version), schema, data))
}

/// Returns a limit of rows as SQL takes it.
pub(crate) fn limit(rows: usize) -> i64 {
    signed(rows as u64)
}

/// Implements [`Store`](buttress_durable::event_store::Store) over the functions of the modules `append`, `read` and
/// `projection` of a database.
macro_rules! event_store {
    ($store:ty) => {
        impl Store for $store {
            async fn append_batch(&self, batch: &NewBatch) -> Result<Appended, AppendError> {
                batch.check().map_err(StoreError::from)?;
                let verdict = append::alone(self, batch).await?;
                $crate::events::answer(batch, verdict)
            }

            async fn read_stream(
                &self,
                stream: &StreamId,
                after: Version,
                limit: usize,
            ) -> Answer<StreamPage> {
                stream.check()?;
                self.bounded("reading a stream", read::stream(self, stream, after, limit)).await
            }

            async fn read_all(
                &self,
                after: Position,
                filter: &Filter,
                limit: usize,
            ) -> Answer<Page> {
                filter.check().map_err(|error| StoreError::invalid(error.to_string()))?;
                self.bounded("reading all events", read::all(self, after, filter, limit)).await
            }

            async fn stream_state(&self, stream: &StreamId) -> Answer<Option<StreamState>> {
                stream.check()?;
                self.bounded("reading the state of a stream", read::head(self, stream)).await
            }

            async fn archive_stream(&self, stream: &StreamId) -> Answer<Option<Version>> {
                stream.check()?;
                self.bounded("closing a stream", append::archive(self, stream)).await
            }

            async fn load_snapshot(&self, stream: &StreamId) -> Answer<Option<Snapshot>> {
                stream.check()?;
                self.bounded("loading a snapshot", read::snapshot(self, stream)).await
            }

            async fn save_snapshot(&self, snapshot: &Snapshot) -> Answer<()> {
                snapshot.check()?;
                self.bounded("saving a snapshot", append::save(self, snapshot)).await
            }

            async fn purge_snapshots(&self, kind: &str, limit: usize) -> Answer<usize> {
                let batch = $crate::events::PURGE_BATCH;
                $crate::purge::in_batches(limit, batch, |some| {
                    self.bounded("purging snapshots", append::purge(self, kind, some))
                })
                .await
            }

            async fn lease_projection(&self, claim: ProjectionClaim<'_>) -> Answer<Option<Leased>> {
                $crate::events::check_name(claim.name)?;
                self.bounded("leasing a projection", projection::lease(self, claim)).await
            }

            async fn release_projection(&self, lease: &ProjectionLease) -> Answer<()> {
                self.bounded("releasing a projection", projection::release(self, lease)).await
            }

            async fn advance_projection(&self, advance: &Advance) -> Answer<()> {
                $crate::events::refuse_return(advance)?;
                self.bounded("moving a checkpoint", projection::advance_alone(self, advance)).await
            }

            async fn swap_projection(&self, swap: &Swap) -> Answer<()> {
                $crate::events::check_swap(swap)?;
                self.bounded("swapping projections", projection::swap_alone(self, swap)).await
            }

            async fn projections(&self) -> Answer<Vec<ProjectionState>> {
                self.bounded("listing projections", projection::list(self)).await
            }

            async fn remove_projection(&self, name: &str) -> Answer<bool> {
                self.bounded("removing a projection", projection::remove(self, name)).await
            }

            fn is_outage(&self, error: &(dyn std::error::Error + 'static)) -> bool {
                $crate::error::is_outage(error)
            }

            async fn event_stats(&self) -> Answer<StoreStats> {
                self.bounded("counting events", read::stats(self)).await
            }
        }
    };
}
pub(crate) use event_store;

/// Implements the traits for transactions of the application over the functions of a database.
macro_rules! events_in_transactions {
    ($store:ty, [$($generics:tt)*] $tx:ty, $name:ident => $connection:expr) => {
        impl<$($generics)*> Append<$tx> for $store {
            async fn append_in(
                &self,
                $name: &mut $tx,
                batch: &NewBatch,
            ) -> Result<Appended, AppendError> {
                batch.check().map_err(StoreError::from)?;
                let appending = append::within(self, $connection, batch);
                let verdict = self.bounded("appending events", appending).await?;
                $crate::events::answer(batch, verdict)
            }

            async fn read_stream_in(
                &self,
                $name: &mut $tx,
                stream: &StreamId,
                after: Version,
                limit: usize,
            ) -> Answer<StreamPage> {
                stream.check()?;
                let reading = read::stream_on(self, $connection, stream, after, limit);
                self.bounded("reading a stream", reading).await
            }

            async fn load_snapshot_in(
                &self,
                $name: &mut $tx,
                stream: &StreamId,
            ) -> Answer<Option<Snapshot>> {
                stream.check()?;
                let loading = read::snapshot_on(self, $connection, stream);
                self.bounded("loading a snapshot", loading).await
            }
        }

        impl<$($generics)*> Checkpoint<$tx> for $store {
            async fn advance_in(&self, $name: &mut $tx, advance: &Advance) -> Answer<()> {
                $crate::events::refuse_return(advance)?;
                let moving = projection::advance(self, $connection, advance);
                self.bounded("moving a checkpoint", moving).await
            }

            async fn swap_in(&self, $name: &mut $tx, swap: &Swap) -> Answer<()> {
                $crate::events::check_swap(swap)?;
                let swapping = projection::swap(self, $connection, swap);
                self.bounded("swapping projections", swapping).await
            }
        }
    };
}
pub(crate) use events_in_transactions;

#[cfg(test)]
mod tests;
