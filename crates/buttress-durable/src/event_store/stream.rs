//! [`StreamId`], [`Version`] and [`Position`]: where an event is.

use std::fmt;

/// Defines one number type per name.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(u64);

        impl $name {
            /// The place before the first event.
            pub const START: Self = Self(0);

            /// Creates the value with this number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Returns the place that is `events` events later, at most the largest number.
            #[must_use]
            pub const fn plus(self, events: u64) -> Self {
                Self(self.0.saturating_add(events))
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

numbers! {
    /// The place of an event in its stream, without gaps: the first event has version 1. The version of a stream is
    /// the version of its last event; 0 if it has none.
    Version;

    /// The place of an event among all events of a store, without gaps: the first event has position 1.
    Position;
}

/// The name of a stream: the kind of the aggregate, and its id.
///
/// ```
/// use buttress_durable::event_store::StreamId;
/// assert_eq!(StreamId::new("order", "7").to_string(), "order/7");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId {
    kind: String,
    id: String,
}

impl StreamId {
    /// The most bytes of a kind, and the most bytes of an id. Both together are the key of a dead letter.
    pub const LONGEST: usize = 255;

    /// Creates a name. A store refuses an empty kind or id, a longer one than [`LONGEST`](Self::LONGEST) bytes, and
    /// U+0000.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }

    /// Returns the kind of the aggregate.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the id of the aggregate among the aggregates of its kind.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}
