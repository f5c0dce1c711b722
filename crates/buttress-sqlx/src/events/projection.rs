//! The decisions about leases and checkpoints of projections.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    Advance, LONGEST_PROJECTION, Leased, Position, ProjectionLease, ProjectionState, ProjectorId,
    Swap,
};

use crate::columns::Columns;
use crate::epoch;
use crate::time::{bounded, duration};

/// The row of a projection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub worker: Option<u128>,
    pub until: i64,
    /// The length that the lease was granted for.
    pub length: i64,
    pub epoch: i64,
    pub checkpoint: i64,
    pub seen: i64,
    pub replayed: i64,
    pub rebuilt: i64,
}

impl Owner {
    /// The columns that [`read`](Self::read) reads.
    pub(crate) const COLUMNS: &str =
        "worker, until, length, epoch, checkpoint, seen, replayed, rebuilt";

    /// Reads a row whose column `at` is the first one of [`COLUMNS`](Self::COLUMNS).
    pub(crate) fn read<R: Columns>(row: &R, at: usize) -> sqlx::Result<Self> {
        Ok(Self {
            worker: row.id_or_null(at)?,
            until: row.int(at + 1)?,
            length: row.int(at + 2)?,
            epoch: row.int(at + 3)?,
            checkpoint: row.int(at + 4)?,
            seen: row.int(at + 5)?,
            replayed: row.int(at + 6)?,
            rebuilt: row.int(at + 7)?,
        })
    }

    /// Whether `lease` is the lease in the row.
    fn is_owned(&self, lease: &ProjectionLease) -> bool {
        self.worker == Some(lease.worker.get()) && self.epoch == epoch::asked(lease.epoch)
    }

    /// Returns the record of the lease of `worker` under `epoch`.
    pub(crate) fn leased(&self, name: &str, worker: ProjectorId, epoch: i64) -> Leased {
        let lease = ProjectionLease::new(name, worker, epoch.unsigned_abs());
        Leased::new(lease, position(self.checkpoint), position(self.seen))
            .replayed(position(self.replayed))
            .rebuilt(position(self.rebuilt))
    }
}

/// Negative numbers, which only a damaged row has, become the start: a projection then handles events again.
fn position(stored: i64) -> Position {
    Position::new(u64::try_from(stored).unwrap_or(0))
}

/// The right of a worker that asks for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// The worker owns the projection under this epoch.
    Own(i64),
    /// Another worker has a live lease that ends later than its length from now. It ends at this time instead.
    Shorten(i64),
    /// Another worker has a live lease.
    Wait,
}

/// Decides about the lease of a projection.
///
/// # Errors
/// Returns `Corrupt` if the epoch is damaged, or cannot grow.
pub(crate) fn turn(name: &str, row: Owner, worker: ProjectorId, now: i64) -> Answer<Turn> {
    let damaged =
        || StoreError::corrupt(format!("projection {name}: no epoch follows epoch {}", row.epoch));
    let end = bounded(row.until, row.length, now);
    match row.worker {
        Some(owner) if owner == worker.get() => {
            epoch::read(row.epoch).map(|_| Turn::Own(row.epoch)).ok_or_else(damaged)
        }
        Some(_) if now < end && end < row.until => Ok(Turn::Shorten(end)),
        Some(_) if now < end => Ok(Turn::Wait),
        _ => epoch::next(row.epoch).map(Turn::Own).ok_or_else(damaged),
    }
}

/// Returns the reason why a statement did not move the checkpoint of `lease` from `at`. `row` is the row afterwards.
pub(crate) fn not_moved(lease: &ProjectionLease, at: Position, row: Option<Owner>) -> StoreError {
    let ProjectionLease { name, epoch, .. } = lease;
    match row {
        Some(row) if row.is_owned(lease) => StoreError::conflict(format!(
            "projection {name}: the checkpoint is {}, the caller expected {at}",
            row.checkpoint
        )),
        _ => StoreError::fenced(format!("projection {name}: epoch {epoch} is over")),
    }
}

/// Refuses a checkpoint that goes back.
pub(crate) fn refuse_return(advance: &Advance) -> Answer<()> {
    let Advance { from, to, lease, .. } = advance;
    if to < from {
        let name = &lease.name;
        return Err(StoreError::conflict(format!(
            "projection {name}: the checkpoint would go back from {from} to {to}"
        )));
    }
    Ok(())
}

/// Refuses a name that a database cannot hold.
pub(crate) fn check_name(name: &str) -> Answer<()> {
    let length = name.len();
    if length == 0 || length > LONGEST_PROJECTION {
        return Err(StoreError::invalid(format!(
            "projection: a name of {length} bytes, between 1 and {LONGEST_PROJECTION} are allowed"
        )));
    }
    crate::bounds::check_text("projection", name)
}

/// Refuses a swap of names that cannot be swapped.
pub(crate) fn check_swap(swap: &Swap) -> Answer<()> {
    check_name(&swap.name)?;
    if swap.name == swap.built.name {
        let name = &swap.name;
        return Err(StoreError::invalid(format!(
            "projection {name}: a projection cannot replace itself"
        )));
    }
    Ok(())
}

/// Reads the state of a projection: its name, the columns of [`Owner`], and when the next event was recorded. `last` is
/// the last position.
pub(crate) fn state<R: Columns>(row: &R, now: i64, last: u64) -> sqlx::Result<ProjectionState> {
    let (owner, next) = (Owner::read(row, 1)?, row.int_or_null(9)?);
    let end = bounded(owner.until, owner.length, now);
    let checkpoint = position(owner.checkpoint);
    let mut state = ProjectionState::new(row.text(0)?, checkpoint, position(owner.seen));
    state.is_leased = owner.worker.is_some() && now < end;
    state.lag = last.saturating_sub(checkpoint.get());
    state.age = next.map_or(Duration::ZERO, |next| duration(now.saturating_sub(next)));
    Ok(state)
}
