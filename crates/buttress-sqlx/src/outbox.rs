//! The outbox between the trait and the tables: the input of a settle call, and rows as messages.

use std::collections::BTreeSet;
use std::time::Duration;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::outbox::{
    Backlog, DeadLetter, Lease, Message, MessageId, NewMessage, Settled, Verdict,
};

use crate::bounds;
use crate::columns::Columns;
use crate::headers;
use crate::time;

pub(crate) mod owners;

/// The statuses of messages when they are written.
pub(crate) mod status {
    pub(crate) const PENDING: i64 = 0;
    pub(crate) const DELAYED: i64 = 1;
}

/// A hold without end.
pub(crate) const FOREVER: i64 = i64::MAX;

/// How many delayed messages become pending per call, in each partition. The next fetch continues
/// with the others.
pub(crate) const MOST_DUE: i64 = 1000;

/// The parts of a settle call, by verdict.
pub(crate) struct Sorted<'s> {
    pub delivered: Vec<&'s Settled>,
    /// With the time that the key is held, the reason, and whether the failure counts.
    pub retried: Vec<(&'s Settled, Duration, String, bool)>,
    /// With the reason, and whether the key is held.
    pub dead: Vec<(&'s Settled, String, bool)>,
}

/// The partitions and epochs of a settle call, each once.
pub(crate) fn fences(settled: &[Settled]) -> BTreeSet<(u16, u64)> {
    settled.iter().map(|settled| (settled.lease.partition, settled.lease.epoch)).collect()
}

/// Returns the partitions of a call that did not pass the fence.
pub(crate) fn refused(settled: &[Settled], passed: &BTreeSet<(u16, u64)>) -> Vec<u16> {
    let refused: BTreeSet<u16> = fences(settled)
        .into_iter()
        .filter(|fence| !passed.contains(fence))
        .map(|(partition, _)| partition)
        .collect();
    refused.into_iter().collect()
}

/// Returns the parts of a settle call that passed the fence. Of several verdicts on one message the
/// first counts.
pub(crate) fn sort<'s>(settled: &'s [Settled], passed: &BTreeSet<(u16, u64)>) -> Sorted<'s> {
    let mut sorted = Sorted { delivered: Vec::new(), retried: Vec::new(), dead: Vec::new() };
    let mut seen = BTreeSet::new();
    for settled in settled {
        let fence = (settled.lease.partition, settled.lease.epoch);
        if !passed.contains(&fence) || !seen.insert(settled.sequence) {
            continue;
        }
        match &settled.verdict {
            Verdict::Delivered => sorted.delivered.push(settled),
            Verdict::Retry { counts, after, error } => {
                sorted.retried.push((settled, *after, short(error), *counts));
            }
            Verdict::Dead { error, hold_key } => {
                sorted.dead.push((settled, short(error), *hold_key));
            }
        }
    }
    sorted
}

/// Returns the beginning of a reason, which is for people.
fn short(error: &str) -> String {
    bounds::readable(&error.chars().take(2000).collect::<String>())
}

/// The row of a message.
pub(crate) struct Row {
    sequence: i64,
    id: u128,
    partition: i64,
    key: String,
    topic: String,
    payload: Vec<u8>,
    headers: Option<Vec<u8>>,
    due_at: i64,
    attempts: i64,
    starts: i64,
}

/// The columns of a [`Row`].
pub(crate) const COLUMNS: &str =
    "sequence, id, partition, key, topic, payload, headers, due_at, attempts, starts";

/// The operations on dead letters, over the functions of `dead` of a database.
macro_rules! dead_letters {
    () => {
        async fn dead_letters(&self, after: u64, limit: usize) -> Answer<Vec<DeadLetter>> {
            self.bounded("listing dead letters", dead::list(self, after, limit)).await
        }

        async fn requeue(&self, ids: &[MessageId]) -> Answer<usize> {
            self.bounded("requeueing dead letters", dead::requeue(self, ids)).await
        }

        async fn discard(&self, ids: &[MessageId]) -> Answer<usize> {
            self.bounded("discarding dead letters", dead::discard(self, ids)).await
        }
    };
}
pub(crate) use dead_letters;

/// Returns the number of starts that a statement returned for a message.
pub(crate) fn started(id: MessageId, starts: Option<i64>) -> Answer<u32> {
    let starts =
        starts.ok_or_else(|| StoreError::conflict(format!("message {id}: it is not pending")))?;
    u32::try_from(starts)
        .map_err(|_| StoreError::corrupt(format!("message {id}: starts {starts} is out of range")))
}

/// Refuses a write that met no row of its fence.
pub(crate) fn unless_fenced(lease: Lease, rows: u64) -> Answer<()> {
    if rows == 0 { Err(fenced(lease)) } else { Ok(()) }
}

impl Row {
    /// Reads a row of a message, whose first columns are [`COLUMNS`]. Returns the message, or why
    /// it cannot be read.
    pub(crate) fn read<R: Columns>(row: &R) -> Result<Message, String> {
        Self::of(row).map_err(|error| error.to_string()).and_then(Self::message)
    }

    fn of<R: Columns>(row: &R) -> sqlx::Result<Self> {
        Ok(Self {
            sequence: row.int(0)?,
            id: row.id(1)?,
            partition: row.int(2)?,
            key: row.text(3)?,
            topic: row.text(4)?,
            payload: row.bytes(5)?,
            headers: row.bytes_or_null(6)?,
            due_at: row.int(7)?,
            attempts: row.int(8)?,
            starts: row.int(9)?,
        })
    }

    /// Returns the message, or why it cannot be read.
    pub(crate) fn message(self) -> Result<Message, String> {
        let id = MessageId::new(self.id);
        let wrong =
            |what: &str, number: i64| format!("message {id}: {what} {number} is out of range");
        let sequence =
            u64::try_from(self.sequence).map_err(|_| wrong("sequence", self.sequence))?;
        let partition =
            u16::try_from(self.partition).map_err(|_| wrong("partition", self.partition))?;
        let mut written = NewMessage::new(id, self.key, self.payload).topic(self.topic);
        written.headers = headers::decode(self.headers.as_deref())
            .ok_or_else(|| format!("message {id}: its headers cannot be read"))?;
        let mut message = Message::new(written, sequence, partition, time::duration(self.due_at));
        message.attempts =
            u32::try_from(self.attempts).map_err(|_| wrong("attempts", self.attempts))?;
        message.starts = u32::try_from(self.starts).map_err(|_| wrong("starts", self.starts))?;
        Ok(message)
    }
}

/// Reads a dead letter: the columns of a [`Row`], the reason, the time of death, and whether its key
/// is held. A message that cannot be read is listed with its readable parts. Its error holds the
/// reason.
pub(crate) fn letter<R: Columns>(row: &R) -> sqlx::Result<DeadLetter> {
    let error = row.text(10).unwrap_or_else(|error| format!("the reason cannot be read: {error}"));
    let message = Row::read(row).unwrap_or_else(|_| {
        let mut message = unreadable(
            MessageId::new(row.id(1).unwrap_or_default()),
            row.int(0).unwrap_or_default().unsigned_abs(),
            row.int(2).unwrap_or(-1),
            row.text(3).unwrap_or_default(),
        );
        message.topic = row.text(4).unwrap_or_default();
        message.payload = row.bytes(5).unwrap_or_default();
        message.due_at = time::duration(row.int(7).unwrap_or_default());
        message
    });
    let mut letter = DeadLetter::new(message, error, time::duration(row.int(11)?));
    letter.holds_key = row.flag(12)?;
    Ok(letter)
}

/// Reads the numbers of a backlog: pending messages, dead letters and held keys.
pub(crate) fn backlog<R: Columns>(row: &R) -> sqlx::Result<Backlog> {
    let mut backlog = Backlog::default();
    backlog.pending = row.int(0)?.unsigned_abs();
    backlog.dead = row.int(1)?.unsigned_abs();
    backlog.held_keys = row.int(2)?.unsigned_abs();
    Ok(backlog)
}

/// Returns the known parts of a message whose row cannot be read.
pub(crate) fn unreadable(id: MessageId, sequence: u64, partition: i64, key: String) -> Message {
    let partition = u16::try_from(partition).unwrap_or(u16::MAX);
    let written = NewMessage::new(id, key, Vec::new());
    Message::new(written, sequence, partition, Duration::ZERO)
}

/// Returns the verdict on a message that cannot be read: a dead letter that holds its key. An
/// operator discards the message, or fixes and requeues it. Returns `None` if its partition is not
/// among `leases`.
pub(crate) fn buried(
    leases: impl IntoIterator<Item = Lease>,
    (sequence, partition): (i64, i64),
    key: Option<String>,
    error: String,
) -> Option<Settled> {
    let mut leases = leases.into_iter();
    let lease = leases.find(|lease| i64::from(lease.partition) == partition)?;
    // The conversion keeps a negative sequence, so that it matches its row again.
    let sequence = sequence.cast_unsigned();
    let message = unreadable(MessageId::new(0), sequence, partition, key.unwrap_or_default());
    Some(Settled::new(&message, lease, Verdict::Dead { error, hold_key: true }))
}

/// Returns the error of a call under a lease whose partition has another epoch now.
pub(crate) fn fenced(lease: Lease) -> StoreError {
    StoreError::fenced(format!(
        "outbox partition {}: not owned under epoch {}",
        lease.partition, lease.epoch
    ))
}

/// Takes in the answer to the burial of a message that cannot be read. If the database refuses to change its row, the
/// message stays unchanged, and the fetch returns the other messages.
pub(crate) fn bury_or_pass_over(buried: Result<Vec<u16>, StoreError>) -> Result<(), StoreError> {
    match buried {
        Err(error) if !error.may_pass() => {
            tracing::error!(
                %error,
                "the store could not make a dead letter of a message that cannot be read"
            );
            Ok(())
        }
        buried => buried.map(drop),
    }
}
