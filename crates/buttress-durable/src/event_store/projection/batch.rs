//! [`Batch`]: events on their way to the handler of a projection.

use std::fmt;

use tower::{BoxError, Service};

use crate::event_store::recorded::Ordered;

/// Events on their way to the handler of a projection, with the transaction `Tx` that the handler writes in.
///
/// The handler returns the batch when it has handled every event. The projection then moves its checkpoint and commits
/// the transaction. A handler that returns an error, panics, or is dropped rolls the transaction back.
///
/// `Tx` is `()` in a projection without [`in_transaction`](super::Projection::in_transaction).
#[must_use = "the handler returns the batch"]
pub struct Batch<Tx> {
    pub(super) tx: Tx,
    pub(super) events: Vec<Ordered>,
}

impl<Tx> Batch<Tx> {
    /// Returns the events in the order of their positions: at least one.
    #[must_use]
    pub fn events(&self) -> &[Ordered] {
        &self.events
    }

    /// Returns the transaction.
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// Returns transaction and events, so that a handler writes while it goes through the events.
    pub fn parts(&mut self) -> (&mut Tx, &[Ordered]) {
        (&mut self.tx, &self.events)
    }
}

impl<Tx> fmt::Debug for Batch<Tx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positions = || self.events.iter().map(|event| event.position.get());
        f.debug_struct("Batch")
            .field("events", &self.events.len())
            .field("first", &positions().next())
            .field("last", &positions().next_back())
            .finish_non_exhaustive()
    }
}

/// The services that can handle the events of a projection.
///
/// Implemented for every service of [`Batch`] that returns the batch and is `Clone`, `Send` and `'static`. Its future
/// and its error must be `Send`.
pub trait Handles<Tx>:
    Service<Batch<Tx>, Response = Batch<Tx>, Error: Into<BoxError> + Send, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<Tx, S> Handles<Tx> for S where
    S: Service<
            Batch<Tx>,
            Response = Batch<Tx>,
            Error: Into<BoxError> + Send,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}
