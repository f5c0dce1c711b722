//! [`Held`]: a shard under a lease.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::entry_id::EntryId;
use super::steps::Ask;

/// The entries that were read of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Pending entries from this id on.
    Pending(EntryId),
    /// New entries. There may be some.
    New,
    /// New entries. The last read found as many as it asked for, or an entry has woken the source.
    More,
    /// Nothing: there is no entry behind this id.
    Idle(EntryId),
}

impl Phase {
    /// The start of the pending entries.
    pub(super) const START: Self = Self::Pending(EntryId::new(0, 0));

    const fn ask(self) -> Ask {
        match self {
            Self::Pending(from) => Ask::Pending(from),
            Self::New => Ask::New,
            Self::More | Self::Idle(_) => Ask::More,
        }
    }
}

#[derive(Debug)]
pub(super) struct Held {
    pub epoch: u64,
    /// When the lease ends at the earliest.
    pub until: Instant,
    pub phase: Phase,
    /// When a shard that is handed over is released at the latest.
    pub hand_over: Option<Instant>,
    /// Entries that are buffered or in the consumer.
    pub outstanding: BTreeSet<EntryId>,
    /// Whether a read is in progress.
    pub reading: bool,
    /// Entries that were settled while a read was in progress.
    pub settled: BTreeSet<EntryId>,
    /// Whether the pending entries are read again after the read in progress.
    again: bool,
}

impl Held {
    pub(super) const fn new(epoch: u64, until: Instant) -> Self {
        Self {
            epoch,
            until,
            phase: Phase::START,
            hand_over: None,
            outstanding: BTreeSet::new(),
            reading: false,
            settled: BTreeSet::new(),
            again: false,
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.hand_over.is_none() && !matches!(self.phase, Phase::Idle(_))
    }

    /// Begins to read, and returns the position to read from.
    pub(super) const fn begin(&mut self) -> Ask {
        self.reading = true;
        self.phase.ask()
    }

    /// Takes in how far a read came. `full` says that it found as many entries as it asked for.
    pub(super) fn advance(
        &mut self,
        last: Option<EntryId>,
        next: Option<EntryId>,
        full: bool,
        at: Option<EntryId>,
    ) {
        self.phase = match (self.phase, last, at) {
            (Phase::Pending(_), ..) => next.map_or(Phase::New, Phase::Pending),
            (_, Some(_), _) if full => Phase::More,
            (_, Some(last), _) => Phase::Idle(last),
            (_, None, Some(at)) => Phase::Idle(at),
            // The read does not say where the group is, and a source that was woken found nothing.
            (Phase::More, None, None) => Phase::New,
            (phase, None, None) => phase,
        };
        if std::mem::take(&mut self.again) {
            self.phase = Phase::START;
        }
    }

    /// Reads the pending entries again, from the first.
    pub(super) fn read_again(&mut self) {
        self.again = self.reading;
        self.phase = Phase::START;
    }

    pub(super) fn idle_at(&self) -> Option<EntryId> {
        match self.phase {
            Phase::Idle(at) if self.hand_over.is_none() => Some(at),
            _ => None,
        }
    }

    pub(super) fn wake(&mut self) {
        if let Phase::Idle(_) = self.phase {
            self.phase = Phase::More;
        }
    }
}
