//! [`Recorded`] and [`Ordered`]: events that a store has.

use std::future::Future;
use std::time::Duration;

use buttress::InvalidConfig;

use super::batch::{Expected, NewEvent};
use super::stream::{Position, StreamId, Version};
use crate::event::scope_under;
use crate::outbox::MessageId;

/// An event in its stream.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The stream.
    pub stream: StreamId,
    /// The place in the stream.
    pub version: Version,
    /// The id, which the writer generated.
    pub id: MessageId,
    /// The kind of the event.
    pub kind: String,
    /// The version of the data's schema.
    pub schema: u32,
    /// The encoded data.
    pub data: Vec<u8>,
    /// Names and values beside the data.
    pub headers: Vec<(String, String)>,
    /// When the event was appended: wall time since 1970 by the store's clock. On a database it is the time of the
    /// statement or of the transaction, so events of overlapping transactions may have times out of order.
    pub recorded_at: Duration,
}

impl Recorded {
    /// Creates the record of `event` in `stream`.
    #[must_use]
    pub fn new(stream: StreamId, version: Version, event: NewEvent, recorded_at: Duration) -> Self {
        let NewEvent { id, kind, schema, data, headers } = event;
        Self { stream, version, id, kind, schema, data, headers, recorded_at }
    }

    /// Polls `handler` in the context that the event carries: its correlation id and its trace. The event is the causation
    /// of events that `handler` makes. A task that `handler` spawns does not inherit the causation.
    pub fn scope<F: Future>(&self, handler: F) -> impl Future<Output = F::Output> + use<F> {
        let (context, cause) = scope_under(self.id.into(), &self.headers);
        context.scope(cause.scope(handler))
    }

    /// Returns the bytes of the data and of the headers together.
    pub(super) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.data.len() + headers.sum::<usize>()
    }

    /// Returns `true` if a repeated append of `event` would be this event.
    #[must_use]
    pub fn is(&self, event: &NewEvent) -> bool {
        let NewEvent { id, kind, schema, data, headers } = event;
        self.id == *id
            && self.kind == *kind
            && self.schema == *schema
            && self.data == *data
            && self.headers == *headers
    }
}

/// The number of last events of a stream among which a store looks for a repeated batch whose
/// [`Expected`] allows several versions.
pub const REPEATS: usize = 100;

/// Finds a batch that was appended before. Returns the version before it; `None` if it is not among `recorded`.
///
/// `recorded` has events of the stream in their order: those after the expected version, or, if the batch has none,
/// the last [`REPEATS`] and as many as the batch has.
#[must_use]
pub fn find_repeated(
    expected: Expected,
    events: &[NewEvent],
    recorded: &[Recorded],
) -> Option<Version> {
    let first = events.first()?;
    let start = recorded.iter().position(|event| event.id == first.id)?;
    let found = recorded.get(start..)?.get(..events.len())?;
    let before = Version::new(found.first()?.version.get().checked_sub(1)?);
    let same = found.iter().zip(events).all(|(recorded, event)| recorded.is(event));
    (same && expected.version().is_none_or(|version| version == before)).then_some(before)
}

/// An event in the order of all events.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ordered {
    /// The place among all events.
    pub position: Position,
    /// The event.
    pub event: Recorded,
}

impl Ordered {
    /// Creates the record of an event at a position.
    #[must_use]
    pub const fn new(position: Position, event: Recorded) -> Self {
        Self { position, event }
    }
}

/// Events in the order of all events.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The events that match the filter.
    pub events: Vec<Ordered>,
    /// The last position that the store has examined. Every matching event up to it is in this page or in an earlier
    /// one. The next page begins after it.
    pub through: Position,
    /// Whether `through` is the last position of the store, and every committed event has one. A page with fewer events
    /// than the limit may not be the last one: the store examines a bounded number of positions at a time, and a page
    /// ends at [`LARGEST`](Self::LARGEST).
    pub is_end: bool,
}

impl Page {
    /// The bytes at which a page ends: 8 MiB, data and headers of all events together. The event that reaches
    /// this bound is the last event of its page, so every page has room for one event.
    pub const LARGEST: usize = 8 << 20;

    /// Creates a page. `through` is the last examined position, and `is_end` says whether there is no event after it.
    #[must_use]
    pub const fn new(events: Vec<Ordered>, through: Position, is_end: bool) -> Self {
        Self { events, through, is_end }
    }
}

/// Events of one stream, in the order of their versions.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamPage {
    /// The events.
    pub events: Vec<Recorded>,
    /// Whether the stream ends with these events. `false` means that events may follow. A page with fewer events than the
    /// limit may not be the last one, because a page ends at [`Page::LARGEST`].
    pub is_end: bool,
}

impl StreamPage {
    /// Creates a page. `is_end` says whether the stream ends with `events`.
    #[must_use]
    pub const fn new(events: Vec<Recorded>, is_end: bool) -> Self {
        Self { events, is_end }
    }
}

/// An event that a store cannot read: the source of the `Corrupt` error of [`Store::read_all`](super::Store::read_all). A
/// projection treats it like an event that its handler cannot handle.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the row of the event is damaged: {why}")]
pub struct Unreadable {
    /// The place among all events.
    pub position: Position,
    /// The stream.
    pub stream: StreamId,
    /// The place in the stream, as far as it can be read.
    pub version: Version,
    /// The kind, as far as it can be read.
    pub kind: String,
    /// The part that cannot be read.
    pub why: String,
}

impl Unreadable {
    /// Creates the record of an event that cannot be read because of `why`.
    pub fn new(position: Position, stream: StreamId, why: impl Into<String>) -> Self {
        let (version, kind, why) = (Version::START, String::new(), why.into());
        Self { position, stream, version, kind, why }
    }

    /// Sets the version and the kind, if they can be read.
    #[must_use]
    pub fn event(mut self, version: Version, kind: impl Into<String>) -> Self {
        (self.version, self.kind) = (version, kind.into());
        self
    }

    /// Returns the readable parts, as an event without data.
    pub(super) fn stub(&self) -> Ordered {
        let event = NewEvent::new(MessageId::new(0), self.kind.clone(), "").schema(0);
        let event = Recorded::new(self.stream.clone(), self.version, event, Duration::ZERO);
        Ordered::new(self.position, event)
    }
}

/// Which events a reader wants. The default: all.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Filter {
    /// The kinds of streams; empty for all.
    pub streams: Vec<String>,
    /// The kinds of events; empty for all.
    pub kinds: Vec<String>,
}

impl Filter {
    /// Creates a filter that every event matches.
    pub fn all() -> Self {
        Self::default()
    }

    /// Adds a kind of streams. With at least one, only events of these streams match.
    pub fn stream(mut self, kind: impl Into<String>) -> Self {
        self.streams.push(kind.into());
        self
    }

    /// Adds a kind of events. With at least one, only events of these kinds match.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kinds.push(kind.into());
        self
    }

    /// Checks that every store can compare the kinds. Stores call it before they read.
    ///
    /// # Errors
    /// Returns the first kind that no stream or no event can have.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        for (field, kinds, longest) in [
            ("filter.streams", &self.streams, StreamId::LONGEST),
            ("filter.kinds", &self.kinds, NewEvent::LONGEST_KIND),
        ] {
            for kind in kinds {
                if kind.is_empty() || kind.len() > longest || kind.contains('\0') {
                    let bound = format!("a kind of 1 to {longest} bytes without U+0000");
                    let kind = kind.escape_debug();
                    return Err(InvalidConfig::new(field, format!("`{kind}`"), bound));
                }
            }
        }
        Ok(())
    }

    /// Returns `true` if an event matches.
    #[must_use]
    pub fn matches(&self, event: &Recorded) -> bool {
        let has = |wanted: &[String], kind: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == kind)
        };
        has(&self.streams, event.stream.kind()) && has(&self.kinds, &event.kind)
    }
}

/// The state of a stream.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamState {
    /// The version of its last event.
    pub version: Version,
    /// Whether the stream is closed for appends.
    pub is_closed: bool,
}

impl StreamState {
    /// Creates the state of a stream.
    #[must_use]
    pub const fn new(version: Version, is_closed: bool) -> Self {
        Self { version, is_closed }
    }
}

/// The state of an aggregate at a version, which saves its next load the events before.
///
/// A snapshot can always be removed: the events give the same state.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The stream.
    pub stream: StreamId,
    /// The version of the stream at which the state was taken.
    pub version: Version,
    /// The version of the state's schema. A reader ignores a snapshot of another schema.
    pub schema: u32,
    /// The encoded state.
    pub data: Vec<u8>,
}

impl Snapshot {
    /// The largest state in bytes: 8 MiB.
    pub const LARGEST: usize = 8 << 20;

    /// Creates a snapshot.
    #[must_use]
    pub const fn new(stream: StreamId, version: Version, schema: u32, data: Vec<u8>) -> Self {
        Self { stream, version, schema, data }
    }

    /// Checks that every store can hold the snapshot. Stores call it before they write.
    ///
    /// # Errors
    /// Returns the part that is too long or not allowed.
    pub fn check(&self) -> Result<(), super::batch::InvalidBatch> {
        self.stream.check()?;
        let (length, limit) = (self.data.len(), (0, Self::LARGEST));
        if length > limit.1 {
            let stream = self.stream.clone();
            return Err(super::batch::InvalidBatch { stream, what: "snapshot", length, limit });
        }
        Ok(())
    }

    /// Returns `true` if a store keeps this snapshot when `new` is saved.
    #[must_use]
    pub fn outlasts(&self, new: &Self) -> bool {
        self.schema == new.schema && self.version >= new.version
    }
}

/// The numbers of a store about its order of events.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StoreStats {
    /// The position of the last event that has one.
    pub last: u64,
    /// How old the oldest committed event without a position is. Zero if every event has one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub unsequenced_age: Duration,
}

impl StoreStats {
    /// Creates the numbers of a store in which every event has a position.
    #[must_use]
    pub const fn new(last: Position) -> Self {
        Self { last: last.get(), unsequenced_age: Duration::ZERO }
    }

    /// Sets how old the oldest event without a position is.
    #[must_use]
    pub const fn unsequenced_age(mut self, age: Duration) -> Self {
        self.unsequenced_age = age;
        self
    }
}
