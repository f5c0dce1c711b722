//! [`Aggregate`]: decides about commands, and gets its state from events.

use std::sync::Arc;

use buttress::{CodecError, StoreError};

use super::decoder::Undecodable;
use super::stream::{StreamId, Version};
use crate::event::DomainEvent;

/// An object whose state is the sum of its events. It decides which events a command causes.
///
/// Both functions must be pure. After a conflict with another writer the repository decides again, and a load applies
/// old events. The default value is the state before the first event.
pub trait Aggregate: Default + Send + 'static {
    /// The kind of its streams: between 1 and [`StreamId::LONGEST`] bytes. It stays the same forever.
    const KIND: &'static str;

    /// The type of the events, often an enum.
    type Event: DomainEvent + Send + Sync + 'static;

    /// The type of the commands, often an enum. A command is borrowed, because a conflict decides about it again.
    type Command: Sync;

    /// The reason why the aggregate refuses a command.
    type Error;

    /// Decides which events `command` causes in this state. No events mean that the command changes nothing.
    ///
    /// # Errors
    /// Returns the reason why the command is refused.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// Changes the state by an event that has happened. It must not refuse: the event is a fact.
    fn apply(&mut self, event: &Self::Event);
}

/// The state of an aggregate at a version of its stream.
#[non_exhaustive]
#[derive(Debug)]
pub struct Loaded<A: Aggregate> {
    /// The state.
    pub state: A,
    /// The version of the stream. 0 if the stream has no events.
    pub version: Version,
    /// The events that the command has caused, which `state` includes. Empty after a load.
    pub events: Vec<Arc<A::Event>>,
}

impl<A: Aggregate> Loaded<A> {
    /// The state before the first event.
    pub(super) fn start() -> Self {
        Self { state: A::default(), version: Version::START, events: Vec::new() }
    }
}

/// The reason why a command had no effect, or why its effect is unknown.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failed<E> {
    /// The aggregate refuses the command in its current state.
    #[error("the aggregate refuses the command")]
    Refused(#[source] E),
    /// Other writers were faster each time. Nothing was written.
    #[error("stream {stream} has version {actual}, the command was decided at version {expected}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// The version at which the command was decided.
        expected: Version,
        /// The version of the stream.
        actual: Version,
    },
    /// The stream is closed. Nothing was written.
    #[error("stream {stream} is closed: send the command to another stream")]
    Closed {
        /// The stream.
        stream: StreamId,
    },
    /// An event of the stream cannot be decoded, so the state is unknown. Nothing was written.
    #[error("cannot load the aggregate")]
    Undecodable(#[from] Undecodable),
    /// An event that the command caused cannot be encoded. Nothing was written.
    #[error("event of kind `{kind}`, schema {schema}: cannot be encoded")]
    Unencodable {
        /// The kind.
        kind: String,
        /// The version of the data's schema.
        schema: u32,
        /// The error of the codec.
        #[source]
        source: CodecError,
    },
    /// [`DomainEvent::KINDS`] does not name the kind and the version, so no load could decode the event. Nothing was
    /// written.
    #[error("event of kind `{kind}`, schema {schema}: name it in `DomainEvent::KINDS`")]
    Unlisted {
        /// The kind.
        kind: String,
        /// The version of the data's schema.
        schema: u32,
    },
    /// The store failed. If the error is transient, the events of the command may have been written.
    #[error("cannot load or append events")]
    Store(#[from] StoreError),
}
