//! The types of the next steps of a source and of the answers of Redis. The decisions are in `state.rs`.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::entry_id::EntryId;

/// A lease on a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) struct Claim {
    pub shard: usize,
    /// The number of the lease in this source. Each lease has another number.
    pub epoch: u64,
}

/// An entry that was read under a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) struct Token {
    pub shard: usize,
    pub epoch: u64,
    pub id: EntryId,
    /// The bytes of the entry.
    pub size: usize,
}

/// Which entries a read asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) enum Ask {
    /// Pending entries from this id on. Claims them.
    Pending(EntryId),
    /// Entries that were never delivered to the group. The answer says where the group is if there are none.
    New,
    /// The same, without the place of the group. There are probably some.
    More,
}

/// A read of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::streams) struct Read {
    pub claim: Claim,
    pub ask: Ask,
    pub count: usize,
}

/// The answer to a read: ids, sizes and contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::streams) struct Page<E> {
    pub entries: Vec<(EntryId, usize, E)>,
    /// Where to continue, for a read of pending entries that is not complete.
    pub next: Option<EntryId>,
    /// Pending ids whose entries were trimmed.
    pub deleted: Vec<EntryId>,
    /// The last id that was delivered to the group, if nothing new was there and the read asked for it.
    pub at: Option<EntryId>,
}

impl<E> Default for Page<E> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: None, deleted: Vec::new(), at: None }
    }
}

/// The group as a tick found it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::streams) struct Seen {
    /// Members, this one included.
    pub members: usize,
    /// Shards whose lease was renewed.
    pub mine: BTreeSet<usize>,
    /// Shards without a lease.
    pub free: BTreeSet<usize>,
}

/// The next thing that a source does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::streams) enum Step<E> {
    /// Answers the consumer.
    Deliver { entries: Vec<(Token, E)>, revoked: Vec<usize>, lost: u64 },
    /// Renews the leases, and looks at the group.
    Tick(Vec<Claim>),
    /// Takes a lease that seems free.
    Take(Claim),
    /// Releases a lease.
    Release(Claim),
    /// Begins to read entries. Other steps follow before the answer.
    Read(Vec<Read>),
    /// Waits until a time, for an entry behind one of these ids, or for the consumer.
    Wait { until: Instant, after: Vec<(usize, EntryId)> },
}
