//! What a store of messages must do, and the types it speaks in.

use std::future::Future;
use std::time::Duration;

use buttress::StoreError;

use super::message::{Message, MessageId, NewMessage};
use crate::id::ids;

ids! {
    /// One relay, drawn anew at every start.
    RelayId;
}

/// Writes messages inside the caller's own transaction `Tx`: they exist if it commits.
///
/// Every future is lazy: a message whose future was never polled is not written.
pub trait Write<Tx>: Send + Sync {
    /// Writes one message, with one statement.
    ///
    /// # Errors
    /// `Invalid` if no store could hold it: nothing was done. Otherwise the transaction must be rolled
    /// back.
    fn write(
        &self,
        tx: &mut Tx,
        message: &NewMessage,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Before [`write`](Self::write): locks the key until the transaction ends, so that overlapping
    /// transactions on it come in the order of their commits.
    fn lock_key(
        &self,
        tx: &mut Tx,
        key: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A partition that a relay owns, until its lease ends.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    /// Which partition.
    pub partition: u16,
    /// The fence: every change of owner adds one. The largest value of a signed number of 64 bits, and what
    /// is beyond it, are never assigned: a partition whose epoch cannot be raised is not taken any more.
    pub epoch: u64,
    /// Messages up to this sequence may have been started by an owner that vanished; 0 if none.
    pub suspect_to: u64,
}

impl Lease {
    /// Creates the lease of a partition without suspect messages.
    #[must_use]
    pub const fn new(partition: u16, epoch: u64) -> Self {
        Self { partition, epoch, suspect_to: 0 }
    }
}

/// What a relay owns.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owned {
    /// All of its partitions, in their order.
    pub leases: Vec<Lease>,
    /// How many of them it should give up, once nothing of theirs is under way.
    pub surplus: usize,
}

impl Owned {
    /// Creates what a relay owns: `leases`, of which it should release `surplus`.
    #[must_use]
    pub const fn new(leases: Vec<Lease>, surplus: usize) -> Self {
        Self { leases, surplus }
    }
}

/// Messages that are due, and what time it was in the store.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// In the order of their sequence.
    pub messages: Vec<Message>,
    /// The store's wall time since 1970.
    pub now: Duration,
    /// When the next message that is not due yet, or whose key is held, will be, if that is known.
    pub next_due: Option<Duration>,
}

impl Fetched {
    /// Creates the result of a fetch at the store's wall time `now`. When the next message is due is not known.
    #[must_use]
    pub const fn new(messages: Vec<Message>, now: Duration) -> Self {
        Self { messages, now, next_due: None }
    }
}

/// How the delivery of one message ended.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Which message.
    pub id: MessageId,
    /// Its sequence.
    pub sequence: u64,
    /// Its key.
    pub key: String,
    /// When it was due.
    pub due_at: Duration,
    /// The lease under which it was fetched.
    pub lease: Lease,
    /// What became of it.
    pub verdict: Verdict,
}

impl Settled {
    /// Creates the end of the delivery of `message`, which was fetched under `lease`.
    #[must_use]
    pub fn new(message: &Message, lease: Lease, verdict: Verdict) -> Self {
        let Message { id, sequence, due_at, .. } = *message;
        Self { id, sequence, key: message.key.clone(), due_at, lease, verdict }
    }
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The publisher took it.
    Delivered,
    /// The publisher failed: the key is held until `after` from now, and `starts` is 0 again, because
    /// the message has shown that it does not bring a relay down.
    Retry {
        /// Whether `attempts` counts one more. Not if the message never reached the publisher.
        counts: bool,
        /// How long the key is held.
        after: Duration,
        /// Why, for people.
        error: String,
    },
    /// No more attempts: it becomes a dead letter.
    Dead {
        /// Why, for people.
        error: String,
        /// Whether its key is held until an operator requeues or discards it. Otherwise the messages
        /// behind it go on.
        hold_key: bool,
    },
}

/// A message that is not delivered any more.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// Why the last attempt failed.
    pub error: String,
    /// When it was given up, as wall time since 1970 by the store's clock.
    pub died_at: Duration,
    /// Whether its key is held until it is requeued or discarded.
    pub holds_key: bool,
}

impl DeadLetter {
    /// Creates a dead letter that does not hold its key.
    #[must_use]
    pub const fn new(message: Message, error: String, died_at: Duration) -> Self {
        Self { message, error, died_at, holds_key: false }
    }
}

/// What is waiting in a store.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Backlog {
    /// Messages neither delivered nor dead, due or not.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Keys that are held now.
    pub held_keys: u64,
    /// For how long the oldest message that is due has been; zero if there is none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub oldest_age: Duration,
}

/// Keeps messages, who relays which partition, and what became of each message.
///
/// A key belongs to one partition, a partition to one relay under one epoch, while its lease lasts,
/// counted by the store's own clock. Whatever is written under an older epoch is refused: the check and
/// the write are one.
///
/// Every future is lazy: a method that was called, and whose future was never polled, has no effect.
pub trait Store: Send + Sync + 'static {
    /// Renews what `relay` owns, and takes partitions that nobody owns, up to its fair share (rounded up)
    /// among the relays whose own leases are live, itself included. What is above that share and not in
    /// `busy` is given up; what is above it and busy is counted in [`Owned::surplus`]. `lease` counts
    /// from now. The lease of another relay never counts for longer than its length from now: the clock
    /// may have been set back.
    ///
    /// A partition that is taken over has every message its last owner had fetched as suspect
    /// ([`Lease::suspect_to`]), unless that owner released it.
    fn lease_partitions(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> impl Future<Output = Result<Owned, StoreError>> + Send;

    /// Gives up every partition of `relay`. Nothing it fetched is suspect.
    fn release_partitions(
        &self,
        relay: RelayId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Up to `limit` messages of these partitions that are due and whose key is not held, in the order
    /// of their sequence, and notes down durably how far they go: see [`Lease::suspect_to`]. Messages
    /// fetched before and not settled come again. Partitions of an older epoch yield nothing.
    fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> impl Future<Output = Result<Fetched, StoreError>> + Send;

    /// Notes down that a suspect message is about to be published alone, adding one to its `starts`,
    /// which is returned. `claim` is drawn by the caller for each start: repeating one counts once.
    ///
    /// # Errors
    /// `Fenced` if the partition is owned under another epoch.
    fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Notes down that nothing up to [`Lease::suspect_to`] is suspect any more in this partition.
    fn clear_suspects(&self, lease: Lease) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes down how deliveries ended, all of one call in one transaction. A message that is already
    /// settled stays as it is. Returns the partitions that were refused, because they are owned under
    /// another epoch; what was settled in them was not written.
    fn settle(
        &self,
        settled: Vec<Settled>,
    ) -> impl Future<Output = Result<Vec<u16>, StoreError>> + Send;

    /// Up to `limit` dead letters after sequence `after`, in the order of their sequence.
    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Makes dead letters pending again at their old place, with no attempts and no starts, and lets
    /// their keys go on. Returns how many of `ids` were dead letters.
    fn requeue(&self, ids: &[MessageId]) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Removes dead letters for good, and lets their keys go on. Returns how many of `ids` there were.
    fn discard(&self, ids: &[MessageId]) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// What is waiting.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, StoreError>> + Send;

    /// Removes up to `limit` receipts and barriers of the [`Inbox`](super::Inbox) in this store that were
    /// written at least `age` ago; returns how many. A store without an inbox has none.
    fn purge_receipts(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        let _none = (age, limit);
        async { Ok(0) }
    }

    /// How long this store keeps the receipts and barriers of its [`Inbox`](super::Inbox); `None` if it
    /// keeps them forever, or has no inbox. A relay refuses a store that keeps them for less than the relay
    /// may retry.
    fn receipts_kept(&self) -> Option<Duration> {
        None
    }

    /// Removes up to `limit` messages that were delivered at least `age` ago; returns how many.
    fn purge_delivered(
        &self,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
