//! [`EntryId`]: the id of an entry in a stream.

use std::fmt;
use std::str::FromStr;

use buttress_durable::consume::Place;

/// The id of an entry: the milliseconds of its time, and a sequence within them. Ids of a stream grow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct EntryId {
    ms: u64,
    sequence: u64,
}

impl EntryId {
    pub(crate) const fn new(ms: u64, sequence: u64) -> Self {
        Self { ms, sequence }
    }

    /// Returns the position of the entry in its shard.
    pub(crate) const fn place(self) -> Place {
        Place::Pair(self.ms, self.sequence)
    }
}

impl FromStr for EntryId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, sequence) = text.split_once('-').ok_or(())?;
        let read = |part: &str| part.parse().map_err(|_| ());
        Ok(Self { ms: read(ms)?, sequence: read(sequence)? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}
