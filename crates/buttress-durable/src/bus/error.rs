//! The errors of the bus.

/// The reason why the bus did not take a message. No subscriber has received it.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BusError {
    /// The queue of a group is full, and its subscription refuses further messages.
    #[error("the queue of group `{group}` is full with {capacity} messages: publish again later")]
    Full {
        /// The name of the group.
        group: String,
        /// The capacity of its queue.
        capacity: usize,
    },
    /// The bus has been shut down.
    #[error("the bus has been shut down: no further message is taken")]
    Closed,
}

/// A text that is not a [`Pattern`](super::Pattern).
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not a pattern of topics: {reason}")]
pub struct InvalidPattern {
    /// The text.
    pub text: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}
