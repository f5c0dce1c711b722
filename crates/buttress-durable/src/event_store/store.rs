//! [`Store`], [`Append`] and [`Checkpoint`]: the operations that a store of events implements.

use std::future::Future;

use buttress::StoreError;

use super::batch::{AppendError, Appended, NewBatch};
use super::checkpoint::{Advance, Leased, ProjectionClaim, ProjectionLease, ProjectionState, Swap};
use super::recorded::{Filter, Page, Snapshot, StoreStats, StreamPage, StreamState};
use super::stream::{Position, StreamId, Version};
use crate::answer::Answer;
use crate::causes::find;

/// A store that appends events in the caller's own transaction `Tx`, and reads inside of the same transaction.
///
/// Every future is lazy: an operation whose future was never polled has no effect.
pub trait Append<Tx>: Send + Sync {
    /// Appends the events of a batch to their stream, if the stream has the expected version. The events exist if the
    /// transaction commits.
    ///
    /// The rules of [`Store::append_batch`] apply. The batch may repeat a batch of this transaction or of a
    /// committed one. After a `Conflict` or `Closed` nothing was written, and the transaction can continue.
    ///
    /// # Errors
    /// Returns the errors of [`Store::append_batch`]. After a store's error that is not `Invalid`, roll the
    /// transaction back.
    fn append_in(
        &self,
        tx: &mut Tx,
        batch: &NewBatch,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// Reads a stream as [`Store::read_stream`] does, with the events that this transaction has appended.
    fn read_stream_in(
        &self,
        tx: &mut Tx,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> impl Future<Output = Answer<StreamPage>> + Send;

    /// Reads a snapshot as [`Store::load_snapshot`] does, on the connection of the transaction.
    fn load_snapshot_in(
        &self,
        tx: &mut Tx,
        stream: &StreamId,
    ) -> impl Future<Output = Answer<Option<Snapshot>>> + Send;
}

/// A store that moves the checkpoint of a projection in the transaction `Tx` of its handler.
///
/// The store checks the fence and moves the checkpoint in one step. It holds a lock on the projection until the
/// transaction ends, so a caller commits directly afterwards. A worker that takes the projection over waits for this
/// lock, and sees the checkpoint of the commit.
///
/// Every future is lazy: an operation whose future was never polled has no effect.
pub trait Checkpoint<Tx>: Send + Sync {
    /// Moves the checkpoint as [`Store::advance_projection`] does.
    ///
    /// # Errors
    /// Returns the errors of [`Store::advance_projection`]. Roll the transaction back.
    fn advance_in(&self, tx: &mut Tx, advance: &Advance)
    -> impl Future<Output = Answer<()>> + Send;

    /// Replaces a projection as [`Store::swap_projection`] does.
    ///
    /// # Errors
    /// Returns the errors of [`Store::swap_projection`]. Roll the transaction back.
    fn swap_in(&self, tx: &mut Tx, swap: &Swap) -> impl Future<Output = Answer<()>> + Send;
}

/// A store that begins and commits transactions, for a projection that writes its checkpoint in the transaction of its
/// handler.
pub trait Begin: Send + Sync {
    /// A transaction. Dropping it rolls it back.
    type Tx: Send + 'static;

    /// Begins a transaction that may read and write.
    fn begin_transaction(&self) -> impl Future<Output = Answer<Self::Tx>> + Send;

    /// Commits `tx`.
    ///
    /// # Errors
    /// Returns `Transient` if it is unknown whether the transaction has committed.
    fn commit_transaction(&self, tx: Self::Tx) -> impl Future<Output = Answer<()>> + Send;
}

/// A store of streams of events and their order, of snapshots, and of the checkpoints of projections.
///
/// Positions have no gaps, and they grow only: once a reader has seen an event at a position, every event that gets a
/// position afterwards has a larger one. Within a stream the order of positions is the order of versions.
///
/// Every write carries its identity, so a caller repeats a write whose answer was lost. Every future is lazy: a method
/// whose future was never polled has no effect.
pub trait Store: Send + Sync + 'static {
    /// Appends the events of a batch to their stream in a separate transaction, if the stream has the expected version:
    /// all events or none.
    ///
    /// A batch that was appended before, with the same events at the same place, returns the same answer, also after
    /// the stream has grown or was closed. The store looks at the place that the expected version names. If it names
    /// none, the store looks among the last [`REPEATS`](super::REPEATS) events of the stream.
    ///
    /// # Errors
    /// Returns `Closed` if the stream is closed. Otherwise returns `Conflict` if the version of the stream is not the
    /// expected one. Returns a store's error of the kind `Invalid` if [`NewBatch::check`] refuses the batch; nothing
    /// was done then.
    fn append_batch(
        &self,
        batch: &NewBatch,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// Reads up to `limit` committed events of a stream with a version after `after`, in their order. An unknown stream
    /// has none.
    ///
    /// A page ends with the event that brings it to [`Page::LARGEST`] bytes, so large events need more pages.
    /// [`StreamPage::is_end`] says whether events may follow.
    ///
    /// # Errors
    /// Returns `Corrupt` if an event cannot be read. The error names the stream and the version.
    fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> impl Future<Output = Answer<StreamPage>> + Send;

    /// Reads up to `limit` events that match `filter` with a position after `after`, in the order of positions.
    ///
    /// The store may give positions to committed events first. A page ends with the event that brings it to
    /// [`Page::LARGEST`] bytes, so large events need more pages. Every matching event with a position up to
    /// [`Page::through`] is in the page. [`Page::is_end`] says whether events may follow.
    ///
    /// # Errors
    /// Returns `Corrupt` if the first of these events cannot be read, with [`Unreadable`](super::Unreadable) as its source. The
    /// error names position, stream and kind. The events before such an event are a separate page. Returns `Invalid` if
    /// [`Filter::check`] refuses the filter.
    fn read_all(
        &self,
        after: Position,
        filter: &Filter,
        limit: usize,
    ) -> impl Future<Output = Answer<Page>> + Send;

    /// Returns the state of a stream; `None` if it has no events.
    fn stream_state(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Answer<Option<StreamState>>> + Send;

    /// Closes a stream for appends. Its events can still be read. Returns the version of the stream; `None` if it has
    /// no events, and stays open. A repeated call has no further effect.
    fn archive_stream(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Answer<Option<Version>>> + Send;

    /// Returns the snapshot of a stream; `None` if there is none.
    ///
    /// # Errors
    /// Returns `Corrupt` if the snapshot cannot be read. The caller reads the events instead.
    fn load_snapshot(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Answer<Option<Snapshot>>> + Send;

    /// Replaces the snapshot of a stream, unless the stored one [outlasts](Snapshot::outlasts) it.
    ///
    /// # Errors
    /// Returns `Invalid` if [`Snapshot::check`] refuses the snapshot.
    fn save_snapshot(&self, snapshot: &Snapshot) -> impl Future<Output = Answer<()>> + Send;

    /// Removes up to `limit` snapshots of streams of this kind. Returns how many. Loses nothing: the next loads read
    /// the events instead.
    fn purge_snapshots(
        &self,
        kind: &str,
        limit: usize,
    ) -> impl Future<Output = Answer<usize>> + Send;

    /// Leases a projection to a worker, or renews its lease. Returns the lease with the checkpoint; `None` while
    /// another worker has a live lease.
    ///
    /// Creates a projection that the store does not know, unless the claim is for
    /// [known](ProjectionClaim::known_only) projections only. Raises the epoch, unless the worker owns the projection
    /// already. A worker whose lease has ended still owns the projection until another worker takes it over. The lease of another worker never counts for longer than its length from now, because the clock of the
    /// store may have been set back. A lease counts as over at the instant at which it ends.
    ///
    /// # Errors
    /// Returns `Invalid` if the name is empty, longer than [`LONGEST_PROJECTION`](super::LONGEST_PROJECTION) bytes, or
    /// has U+0000 in it.
    fn lease_projection(
        &self,
        claim: ProjectionClaim<'_>,
    ) -> impl Future<Output = Answer<Option<Leased>>> + Send;

    /// Ends a lease, so that another worker can take the projection immediately. The projection has no owner afterwards.
    /// Has no effect if another worker owns the projection, or the same one under another epoch.
    fn release_projection(
        &self,
        lease: &ProjectionLease,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Moves the checkpoint of a projection in a separate transaction.
    ///
    /// # Errors
    /// Returns `Fenced` unless the worker owns the projection under this epoch. Returns `Conflict` if the checkpoint is
    /// not [`Advance::from`], or if the move goes back.
    fn advance_projection(&self, advance: &Advance) -> impl Future<Output = Answer<()>> + Send;

    /// Replaces a projection by another that was built beside it. The replaced name gets the checkpoint of the built
    /// projection, and the store removes the name of the built one.
    ///
    /// Creates the replaced name if the store does not know it. No worker owns it afterwards, so its former owner
    /// cannot commit the batch that it handles.
    ///
    /// # Errors
    /// Returns `Fenced` unless the worker owns the built projection under this epoch. Returns `Conflict` if its
    /// checkpoint is not [`Swap::at`]. Returns `Invalid` for a name that
    /// [`lease_projection`](Self::lease_projection) refuses, and if both names are equal.
    fn swap_projection(&self, swap: &Swap) -> impl Future<Output = Answer<()>> + Send;

    /// Returns every projection, in the order of their names.
    fn projections(&self) -> impl Future<Output = Answer<Vec<ProjectionState>>> + Send;

    /// Removes a projection with its checkpoint. Returns `false` if the store does not know it. Its owner cannot commit
    /// any more.
    fn remove_projection(&self, name: &str) -> impl Future<Output = Answer<bool>> + Send;

    /// Returns `true` if an error of a handler, or one of its causes, is an error of the database that may pass. Such an
    /// error uses up no attempt of a projection.
    ///
    /// The provided method knows [`StoreError`]. A store on a database also judges the errors of its client, because a handler
    /// in a transaction of the store returns them.
    fn is_outage(&self, error: &(dyn std::error::Error + 'static)) -> bool {
        find::<StoreError>(error).is_some_and(StoreError::may_pass)
    }

    /// Returns the numbers of the store.
    fn event_stats(&self) -> impl Future<Output = Answer<StoreStats>> + Send;
}
