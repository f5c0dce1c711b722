//! The move of one saga to another version of its definition, as a [`Store`](super::Store) makes it.

use std::time::Duration;

use super::records::Record;
use crate::saga::model::entry::{Beginning, Entry, Status};
use crate::saga::model::id::SagaId;

/// A log for another version of its definition, which replaces the log of a saga.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLog<P> {
    /// The id of the saga.
    pub saga: SagaId,
    /// The name of the definition.
    pub definition: String,
    /// The version of the saga before.
    pub from: u32,
    /// The version of the saga after.
    pub to: u32,
    /// The epoch of the saga before. The move adds one.
    pub epoch: u64,
    /// The status of the saga. It stays.
    pub status: Status,
    /// How many entries the log held before.
    pub length: u64,
    /// How many signals the store had recorded for the saga before.
    pub signals: u64,
    /// The first entry of the new log.
    pub beginning: Beginning<P>,
    /// The entries of the new log after the first one.
    pub entries: Vec<Entry<P>>,
    /// When each of the entries was recorded, as wall time since 1970 by the store's clock. `None` for a time that
    /// is not known. Entries without a place in it have no known time.
    pub times: Vec<Option<Duration>>,
}

impl<P: Clone> NewLog<P> {
    /// Creates a log for version `to` of the definition that replaces the log of `record` with the same entries.
    #[must_use]
    pub fn new(record: &Record<P>, to: u32) -> Self {
        Self {
            saga: record.id,
            definition: record.definition.clone(),
            from: record.version,
            to,
            epoch: record.epoch,
            status: record.status,
            length: record.entries.len() as u64,
            signals: record.signals,
            beginning: record.beginning.clone(),
            entries: record.entries.clone(),
            times: record.times.clone(),
        }
    }
}

/// The answer of a store to a move of a saga to another version. Nothing has changed unless it is
/// [`Moved`](Self::Moved).
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Moved {
    /// The saga has the new version and the new log.
    Moved,
    /// A worker with a live lease owns the saga.
    Owned,
    /// The saga is not as it was loaded any more: its version, epoch, status, log or signals have changed.
    Changed,
    /// There is no such saga, or it has ended.
    Gone,
}
