//! A message that a consumer holds, and its next step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::consume::content::{Content, Key};
use crate::consume::letter::{Reason, Replay, ReplayId};
use crate::consume::source::{Place, Settle, Shard};

/// The number of a held message.
pub(in crate::consume) type EntryId = u64;

/// The state of a held message when the consumer sent a request about it to the transport or to the store of letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::consume) struct Hold {
    pub id: EntryId,
    /// How many times the token, or the claim, had been replaced by then.
    pub(super) turn: u32,
}

/// Ends of messages that were not reported yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::consume) struct Ends {
    /// Became dead letters.
    pub dead: u64,
    /// Returned to the transport.
    pub returned: u64,
    /// Forgotten at the end of the drain, because another consumer owns them.
    pub revoked: u64,
}

/// A replay stops at a key: it leaves out the later letters of the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::consume) struct Stop {
    pub replay: ReplayId,
    pub key: Key,
    /// How many letters were returned unhandled.
    pub left_out: usize,
}

/// The number of a question about a key.
pub(in crate::consume) type Ask = u64;

/// The messages that are handled one after the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::consume) enum LaneKey {
    /// All messages of a key.
    Key(Key),
    /// One message without order.
    One(EntryId),
}

/// Where a message came from.
#[derive(Clone, Debug)]
pub(in crate::consume) enum Origin<T> {
    Delivered { token: T, shard: Shard, place: Option<Place>, redeliveries: u32 },
    Letter { replay: Replay, replays: u32 },
}

/// The state of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::consume) enum Stage {
    /// The message is in its lane: behind other messages, or ready to run.
    Waiting,
    /// The handler runs.
    Running,
    /// In front of its lane until the time of the next attempt.
    Resting(Instant),
    /// The dead letter is being written, or a replayed letter is being removed. The lane stands still.
    Writing,
    /// The end is being reported to the transport.
    Settling(Settle),
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub origin: Origin<T>,
    pub content: Arc<Content>,
    pub lane: LaneKey,
    pub stage: Stage,
    /// Attempts that failed and counted.
    pub attempts: u32,
    /// Failures in a row that did not count.
    pub refusals: u32,
    /// Its shard was revoked while the handler ran: it blocks its lane, and nothing is settled.
    pub gone: bool,
    /// How many times the token, or the claim, was replaced.
    pub turn: u32,
    /// The token was replaced during the report to the transport, which has to be repeated.
    pub renewed: bool,
    /// The lane stands still until the transport has answered.
    pub holds_lane: bool,
}

impl<T> Entry<T> {
    pub(super) fn shard(&self) -> Option<Shard> {
        match &self.origin {
            Origin::Delivered { shard, .. } => Some(*shard),
            Origin::Letter { .. } => None,
        }
    }

    /// Returns the identity of the message, which all of its deliveries share.
    pub(super) fn position(&self) -> Option<(Shard, Place)> {
        match &self.origin {
            Origin::Delivered { shard, place, .. } => place.clone().map(|place| (*shard, place)),
            Origin::Letter { .. } => None,
        }
    }
}

/// Something that the consumer has to do for a message.
#[derive(Clone, Debug)]
pub(in crate::consume) enum Work {
    /// Call the handler.
    Handle { id: EntryId, content: Arc<Content>, attempt: u32, replays: u32 },
    /// Write a dead letter, then report [`written`](super::Lanes::written).
    Bury { id: EntryId, content: Arc<Content>, burial: Burial },
    /// Remove a letter whose replay was handled, then report [`written`](super::Lanes::written).
    Resolve { id: EntryId, replay: Replay },
    /// Ask whether dead letters hold the key, then report [`asked`](super::Lanes::asked).
    Ask { key: Key, ask: Ask },
}

/// The end of a message that became a dead letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::consume) struct Burial {
    pub reason: Reason,
    pub error: String,
    pub attempts: u32,
    /// The replays so far.
    pub replays: u32,
    /// The claim on the letter that this one replaces.
    pub replay: Option<Replay>,
    /// The consumer replays the letter after this time.
    pub due_in: Option<Duration>,
    /// Whether later messages of the key are parked behind it.
    pub holds_key: bool,
}

/// How a handler ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::consume) enum Outcome {
    Done,
    /// The message gets another attempt, unless this was the last one.
    Failed {
        error: String,
        counts: bool,
        hint: Option<Duration>,
    },
    /// Another attempt cannot help.
    Dead {
        reason: Reason,
        error: String,
    },
}

/// The decision about a message after its handler ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::consume) enum Became {
    Done,
    Resting,
    Dead,
    /// Returned to the transport, because the consumer shuts down.
    Back,
    /// Another consumer owns it.
    Gone,
}
