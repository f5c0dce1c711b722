//! [`NewBatch`]: events that a caller appends to one stream.

use std::collections::HashSet;

use super::stream::{StreamId, Version};
use crate::outbox::MessageId;

/// The version that a stream must have for an append.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Expected {
    /// The stream has exactly this version. `Exactly(0)` is [`New`](Self::New).
    Exactly(Version),
    /// The stream has no events.
    New,
    /// The stream has at least one event.
    Exists,
    /// The stream may have any version.
    Any,
}

impl Expected {
    /// Returns `true` if a stream of version `actual` may be appended to.
    #[must_use]
    pub fn admits(self, actual: Version) -> bool {
        match self {
            Self::Exactly(version) => version == actual,
            Self::New => actual == Version::START,
            Self::Exists => actual > Version::START,
            Self::Any => true,
        }
    }

    /// Returns the one version that the stream must have. `None` if several versions are allowed.
    #[must_use]
    pub const fn version(self) -> Option<Version> {
        match self {
            Self::Exactly(version) => Some(version),
            Self::New => Some(Version::START),
            Self::Exists | Self::Any => None,
        }
    }
}

/// An event that a caller appends to a stream.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "an event does nothing until it is appended"]
pub struct NewEvent {
    /// The id, which the caller generates. The store recognises a repeated append by the ids of its events.
    pub id: MessageId,
    /// The kind of the event.
    pub kind: String,
    /// The version of the data's schema.
    pub schema: u32,
    /// The encoded data.
    pub data: Vec<u8>,
    /// Names and values beside the data, e.g. the correlation id.
    pub headers: Vec<(String, String)>,
}

impl NewEvent {
    /// The most bytes of the kind.
    pub const LONGEST_KIND: usize = 256;
    /// The largest data in bytes: 1 MiB. Keep large contents in a separate store.
    pub const LARGEST_DATA: usize = 1 << 20;
    /// The most bytes of all header names and values together: 64 KiB.
    pub const LARGEST_HEADERS: usize = 1 << 16;

    /// Creates an event whose data has version 1 of its schema, without headers.
    pub fn new(id: MessageId, kind: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self { id, kind: kind.into(), schema: 1, data: data.into(), headers: Vec::new() }
    }

    /// Sets the version of the data's schema. Default: 1.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Returns the bytes of all header names and values together.
    fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Events that a caller appends to one stream: all of them or none.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a batch does nothing until it is appended"]
pub struct NewBatch {
    /// The stream.
    pub stream: StreamId,
    /// The version that the stream must have.
    pub expected: Expected,
    /// The events, in their order in the stream.
    pub events: Vec<NewEvent>,
}

impl NewBatch {
    /// The most events of a batch.
    pub const MOST_EVENTS: usize = 1000;
    /// The most bytes of a batch, data and headers of all events together: 8 MiB.
    pub const LARGEST: usize = 8 << 20;

    /// Creates a batch.
    pub const fn new(stream: StreamId, expected: Expected, events: Vec<NewEvent>) -> Self {
        Self { stream, expected, events }
    }

    /// Checks that every store can hold the batch. Stores call it before they write.
    ///
    /// # Errors
    /// Returns the part that is empty, too long or not allowed.
    pub fn check(&self) -> Result<(), InvalidBatch> {
        self.stream.check()?;
        let refused = |what, length, limit| {
            Err(InvalidBatch { stream: self.stream.clone(), what, length, limit })
        };
        let events = self.events.len();
        if events == 0 || events > Self::MOST_EVENTS {
            return refused("number of events", events, (1, Self::MOST_EVENTS));
        }
        let (mut ids, mut bytes) = (HashSet::with_capacity(events), 0);
        for event in &self.events {
            let headers = event.header_bytes();
            for (what, length, limit) in [
                ("kind", event.kind.len(), (1, NewEvent::LONGEST_KIND)),
                ("data", event.data.len(), (0, NewEvent::LARGEST_DATA)),
                ("headers", headers, (0, NewEvent::LARGEST_HEADERS)),
            ] {
                if length < limit.0 || length > limit.1 {
                    return refused(what, length, limit);
                }
            }
            bytes += event.data.len() + headers;
            let texts = event.headers.iter().flat_map(|(name, value)| [name, value]);
            if texts.chain([&event.kind]).any(|text| text.contains('\0')) {
                return refused("number of U+0000 in kind or headers", 1, (0, 0));
            }
            if !ids.insert(event.id) {
                return refused("number of events with one id", 2, (1, 1));
            }
        }
        if bytes > Self::LARGEST {
            return refused("data and headers", bytes, (1, Self::LARGEST));
        }
        Ok(())
    }
}

impl StreamId {
    /// Checks that every store can hold the name. Stores call it before they read or write.
    ///
    /// # Errors
    /// Returns the part that is empty, too long or not allowed.
    pub fn check(&self) -> Result<(), InvalidBatch> {
        for (what, nul, text) in [
            ("stream kind", "number of U+0000 in the stream kind", self.kind()),
            ("stream id", "number of U+0000 in the stream id", self.id()),
        ] {
            let (length, limit) = (text.len(), (1, Self::LONGEST));
            if length < limit.0 || length > limit.1 {
                return Err(InvalidBatch { stream: self.clone(), what, length, limit });
            }
            let length = text.matches('\0').count();
            if length > 0 {
                return Err(InvalidBatch {
                    stream: self.clone(),
                    what: nul,
                    length,
                    limit: (0, 0),
                });
            }
        }
        Ok(())
    }
}

/// The reason why no store can hold a batch of events, or a stream.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream {}: {what}: {length}, between {} and {} are allowed", .stream.to_string().escape_debug(), .limit.0, .limit.1)]
pub struct InvalidBatch {
    /// The stream.
    pub stream: StreamId,
    /// The part that was refused.
    pub what: &'static str,
    /// The length of this part: bytes of a text or of data, or a number.
    pub length: usize,
    /// The least and the greatest allowed length.
    pub limit: (usize, usize),
}

impl From<InvalidBatch> for buttress::StoreError {
    fn from(error: InvalidBatch) -> Self {
        Self::invalid(error.to_string()).with_source(error)
    }
}

/// The place of appended events in their stream.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Appended {
    /// The version of the first event.
    pub first: Version,
    /// The version of the last event, which the stream had after the append.
    pub last: Version,
}

impl Appended {
    /// Creates the place of `events` events after the version `before`.
    #[must_use]
    pub const fn new(before: Version, events: usize) -> Self {
        Self { first: before.plus(1), last: before.plus(events as u64) }
    }
}

/// The reason why events were not appended.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream has another version: another writer was faster. Nothing was written, and a transaction of the
    /// caller can continue.
    #[error("stream {stream} has version {actual}, the append expected {}", expectation(*.expected))]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// The version that the append expected.
        expected: Expected,
        /// The version of the stream.
        actual: Version,
    },
    /// The stream was closed by [`Store::archive_stream`](super::Store::archive_stream). Nothing was written, and a
    /// transaction of the caller can continue.
    #[error("stream {stream} is closed: append to another stream")]
    Closed {
        /// The stream.
        stream: StreamId,
    },
    /// The store failed. Roll a transaction of the caller back, unless the kind is `Invalid`.
    #[error("cannot append events")]
    Store(#[from] buttress::StoreError),
}

fn expectation(expected: Expected) -> String {
    match expected {
        Expected::Exactly(version) => format!("version {version}"),
        Expected::New => "a stream without events".to_owned(),
        Expected::Exists => "a stream with events".to_owned(),
        Expected::Any => "any version".to_owned(),
    }
}
