//! The operations of relays that the writer carries out.

use std::collections::BTreeMap;

use buttress::StoreError;
use buttress_durable::outbox::{Message, Settled};

use crate::queue::{Job, Op, pass_on};

/// The greatest sequence that a relay has fetched in a partition.
pub(crate) struct Mark {
    pub partition: u16,
    pub epoch: u64,
    pub high: i64,
}

pub(crate) type SettleJob = Job<Vec<Settled>, Vec<u16>>;
/// Returns the partitions that have the mark.
pub(crate) type MarkJob = Job<Vec<Mark>, Vec<u16>>;
/// The input: partitions whose delayed messages are due.
pub(crate) type WakeJob = Job<Vec<u16>, ()>;

/// An operation of the writer.
pub(crate) enum RelayOp {
    Settle(SettleJob),
    Mark(MarkJob),
    Wake(WakeJob),
    /// Partitions with a hold or a delay that is too long.
    Shorten(WakeJob),
}

impl Op for RelayOp {
    /// Operations of one kind run one after another.
    fn subject(&self) -> u128 {
        match self {
            Self::Settle(_) => 1,
            Self::Mark(_) => 2,
            Self::Wake(_) => 3,
            Self::Shorten(_) => 4,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Settle(job) => job.input.len(),
            Self::Mark(job) => job.input.len(),
            Self::Wake(job) | Self::Shorten(job) => job.input.len() * 100,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Settle(job) => job.input.iter().map(|settled| settled.key.len()).sum(),
            Self::Mark(_) | Self::Wake(_) | Self::Shorten(_) => 0,
        }
    }

    pass_on!(Settle Mark Wake Shorten);
}

/// Returns the greatest sequence fetched in each partition.
pub(crate) fn highest(messages: &[Message]) -> BTreeMap<u16, i64> {
    let mut highest = BTreeMap::new();
    for message in messages {
        let sequence = i64::try_from(message.sequence).unwrap_or(i64::MAX);
        let high = highest.entry(message.partition).or_insert(sequence);
        *high = sequence.max(*high);
    }
    highest
}
