//! [`Store`] and [`Write`]: the operations that a message store implements, and their types.

use std::future::Future;
use std::time::Duration;

use buttress::__ids as ids;

use super::message::{Message, MessageId, NewMessage};
use crate::answer::Answer;

ids! {
    /// The id of a relay. Each [`Relay`](super::Relay) value generates a new id.
    RelayId;
}

/// A store that writes messages in the caller's own transaction `Tx`. A message exists if the transaction
/// commits.
///
/// Every future is lazy: a message whose future was never polled is not written.
pub trait Write<Tx>: Send + Sync {
    /// Writes one message with one statement.
    ///
    /// # Errors
    /// Returns `Invalid` if no store could hold the message; nothing was done then. After any other
    /// error, roll the transaction back.
    fn write(&self, tx: &mut Tx, message: &NewMessage) -> impl Future<Output = Answer<()>> + Send;

    /// Locks the key until the transaction ends. The caller calls this before
    /// [`write`](Self::write).
    ///
    /// Overlapping transactions on the key then come in the order of their commits.
    fn lock_key(&self, tx: &mut Tx, key: &str) -> impl Future<Output = Answer<()>> + Send;
}

/// A partition that a relay owns until its lease ends.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    /// The partition.
    pub partition: u16,
    /// The fence. Every change of owner adds one. Epochs from `i64::MAX` on are never assigned: no
    /// relay takes a partition whose epoch cannot grow.
    pub epoch: u64,
    /// Messages up to this sequence are suspect: an owner that crashed may have started them. 0 if
    /// none is.
    pub suspect_to: u64,
}

impl Lease {
    /// Creates the lease of a partition without suspect messages.
    #[must_use]
    pub const fn new(partition: u16, epoch: u64) -> Self {
        Self { partition, epoch, suspect_to: 0 }
    }
}

/// A request of a relay for partitions.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewal<'a> {
    /// The relay.
    pub relay: RelayId,
    /// How long the leases last from now.
    pub lease: Duration,
    /// The partitions that the relay cannot release yet, because one of their messages is in flight.
    pub busy: &'a [u16],
}

impl<'a> Renewal<'a> {
    /// Creates a request of `relay` for leases of length `lease`. `busy` holds the partitions with a
    /// message in flight.
    #[must_use]
    pub const fn new(relay: RelayId, lease: Duration, busy: &'a [u16]) -> Self {
        Self { relay, lease, busy }
    }
}

/// The partitions that a relay owns.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owned {
    /// The leases of all its partitions, in the order of the partitions.
    pub leases: Vec<Lease>,
    /// How many partitions the relay should release, once none of their messages is in flight.
    pub surplus: usize,
}

impl Owned {
    /// Creates the record of a relay that owns `leases` and should release `surplus` of them.
    #[must_use]
    pub const fn new(leases: Vec<Lease>, surplus: usize) -> Self {
        Self { leases, surplus }
    }
}

/// Messages that are due, with the time of the store.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// The messages, in the order of their sequence.
    pub messages: Vec<Message>,
    /// The store's wall time since 1970.
    pub now: Duration,
    /// When the next message becomes due, if known. Includes messages whose key is held until a
    /// known time.
    pub next_due: Option<Duration>,
}

impl Fetched {
    /// Creates the result of a fetch at the store's wall time `now`. Leaves `next_due` unknown.
    #[must_use]
    pub const fn new(messages: Vec<Message>, now: Duration) -> Self {
        Self { messages, now, next_due: None }
    }
}

/// The record of how the delivery of one message ended.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// The id of the message.
    pub id: MessageId,
    /// The sequence of the message.
    pub sequence: u64,
    /// The key of the message.
    pub key: String,
    /// When the message was due.
    pub due_at: Duration,
    /// The lease under which the relay fetched the message.
    pub lease: Lease,
    /// How the delivery ended.
    pub verdict: Verdict,
}

impl Settled {
    /// Creates the record of a delivery of `message`, which the relay fetched under `lease`.
    #[must_use]
    pub fn new(message: &Message, lease: Lease, verdict: Verdict) -> Self {
        let Message { id, sequence, due_at, .. } = *message;
        Self { id, sequence, key: message.key.clone(), due_at, lease, verdict }
    }
}

/// How the delivery of a message ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The publisher took the message.
    Delivered,
    /// The delivery failed. The store holds the key for `after`, counted from now. It sets `starts`
    /// to 0, because the message has shown that it does not crash a relay.
    Retry {
        /// Whether the failure counts as an attempt. False if the classifier ignores the result.
        counts: bool,
        /// How long the store holds the key.
        after: Duration,
        /// The reason, for people.
        error: String,
    },
    /// The message has no attempts left and becomes a dead letter.
    Dead {
        /// The reason, for people.
        error: String,
        /// Whether the store holds the key until an operator requeues or discards the message. If
        /// false, the relay continues with the next messages of the key.
        hold_key: bool,
    },
}

/// A message that relays have stopped delivering.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// The reason of the last failure.
    pub error: String,
    /// When the message became a dead letter, as wall time since 1970 by the store's clock.
    pub died_at: Duration,
    /// Whether the store holds the key until an operator requeues or discards the message.
    pub holds_key: bool,
}

impl DeadLetter {
    /// Creates a dead letter that does not hold its key.
    #[must_use]
    pub const fn new(message: Message, error: String, died_at: Duration) -> Self {
        Self { message, error, died_at, holds_key: false }
    }
}

/// The numbers of waiting and dead messages in a store.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Backlog {
    /// Messages that are neither delivered nor dead, due or not.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Keys that the store holds now.
    pub held_keys: u64,
    /// How long the oldest due message has been due. Zero if no message is due.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub oldest_age: Duration,
}

/// A store of messages, of the owner of each partition, and of how each delivery ended.
///
/// A key belongs to one partition. One relay owns a partition, under one epoch, while its lease
/// lasts. The store's own clock measures the lease. The store refuses every write under an older
/// epoch, and it makes the check and the write in one step.
///
/// Every future is lazy: a method whose future was never polled has no effect.
pub trait Store: Send + Sync + 'static {
    /// Renews the leases of a relay, and takes partitions without an owner up to its fair share.
    ///
    /// The fair share is the number of partitions divided by the number of relays with a live
    /// lease, rounded up. The caller counts among them. The store releases the partitions above the
    /// share that are not [busy](Renewal::busy). It counts the busy ones above the share in
    /// [`Owned::surplus`].
    ///
    /// The lease of another relay never counts for longer than its length from now, because the
    /// clock of the store may have been set back.
    ///
    /// When the relay takes a partition over, every message that the last owner had fetched is
    /// suspect ([`Lease::suspect_to`]), unless the last owner released the partition.
    fn lease_partitions(&self, renewal: Renewal<'_>) -> impl Future<Output = Answer<Owned>> + Send;

    /// Releases every partition of `relay`. None of the messages that `relay` fetched is suspect.
    fn release_partitions(&self, relay: RelayId) -> impl Future<Output = Answer<()>> + Send;

    /// Fetches up to `limit` due messages whose key is not held, in the order of their sequence.
    ///
    /// Records durably the greatest sequence that was fetched: see [`Lease::suspect_to`]. Messages
    /// that were fetched before and not settled are fetched again. A lease of an older epoch yields
    /// no messages.
    fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> impl Future<Output = Answer<Fetched>> + Send;

    /// Records that a relay is about to publish a suspect message alone. Adds one to `starts` of
    /// the message, and returns the sum.
    ///
    /// The caller generates a new `claim` for each start. A repeated call with the same claim counts once.
    ///
    /// # Errors
    /// Returns `Fenced` if the partition is owned under another epoch.
    fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> impl Future<Output = Answer<u32>> + Send;

    /// Records that no message up to [`Lease::suspect_to`] is suspect any more in this partition.
    fn clear_suspects(&self, lease: Lease) -> impl Future<Output = Answer<()>> + Send;

    /// Records how deliveries ended, in one transaction per call. A message that is already settled
    /// stays unchanged.
    ///
    /// Returns the partitions that are owned under another epoch. Nothing was recorded for these
    /// partitions.
    fn settle(&self, settled: Vec<Settled>) -> impl Future<Output = Answer<Vec<u16>>> + Send;

    /// Returns up to `limit` dead letters after sequence `after`, in the order of their sequence.
    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<DeadLetter>>> + Send;

    /// Makes dead letters pending again at their old position, with no attempts and no starts.
    /// Releases their keys.
    ///
    /// Returns how many of `ids` were dead letters.
    fn requeue(&self, ids: &[MessageId]) -> impl Future<Output = Answer<usize>> + Send;

    /// Removes dead letters permanently, and releases their keys. Returns how many of `ids` were
    /// dead letters.
    fn discard(&self, ids: &[MessageId]) -> impl Future<Output = Answer<usize>> + Send;

    /// Counts the waiting messages, the dead letters and the held keys.
    fn backlog(&self) -> impl Future<Output = Answer<Backlog>> + Send;

    /// Removes up to `limit` receipts of the [`Inbox`](super::Inbox), and records of the
    /// [`saga::Barrier`](crate::saga::Barrier), in this store that were written at least `age` ago.
    /// Returns how many it removed.
    ///
    /// The default implementation removes none, for a store with neither.
    fn purge_receipts(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Answer<usize>> + Send {
        let _none = (age, limit);
        async { Ok(0) }
    }

    /// Returns how long this store keeps the receipts of its [`Inbox`](super::Inbox). Returns
    /// `None` if it keeps them forever or has no inbox.
    ///
    /// [`Relay::new`](super::Relay::new) refuses a store that keeps them for less than
    /// [`Config::longest_retry`](super::Config::longest_retry).
    fn receipts_kept(&self) -> Option<Duration> {
        None
    }

    /// Removes up to `limit` messages that were delivered at least `age` ago. Returns how many it
    /// removed.
    ///
    /// A relay that has much to purge passes up to eight times its configured batch. A store whose
    /// writers wait for each other should remove a large number in several transactions.
    fn purge_delivered(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Answer<usize>> + Send;
}
