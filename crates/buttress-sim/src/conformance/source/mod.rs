//! Cases for transports: publishers and [`Source`]s under a [`Consumer`](buttress_durable::consume::Consumer).
//!
//! The numbers are from the project's list of behaviours of consumers. A case that a transport cannot
//! show, e.g. because its connection cannot be cut, is left out by [`Features`].

mod between;
mod cases;
mod group;
mod topology;

use std::future::Future;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::Source;
use buttress_durable::outbox::NewMessage;
use tower::BoxError;

pub use group::{Group, Seen};
pub use topology::{Topology, all as topology};

/// The behaviour that a transport can show.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Whether messages of one key stay in order with several consumers of one group.
    pub keys_across_consumers: bool,
    /// Whether a consumer that is dropped frees its messages without the passage of time.
    pub frees_at_once: bool,
    /// The largest payload that the transport takes, in bytes.
    pub largest_payload: usize,
    /// How many messages the transport takes before a consumer exists.
    pub backlog: usize,
}

impl Features {
    /// Creates the features of a transport that can show everything, with payloads of up to `largest_payload` bytes.
    #[must_use]
    pub const fn all(largest_payload: usize) -> Self {
        let (keys_across_consumers, frees_at_once) = (true, true);
        Self { keys_across_consumers, frees_at_once, largest_payload, backlog: 1000 }
    }
}

/// A transport under test.
pub trait Transport {
    /// The subscription of a consumer.
    type Source: Source;

    /// Returns the behaviour that the transport can show.
    fn features(&self) -> Features;

    /// Returns the clock of the consumers.
    fn clock(&self) -> Clock;

    /// Begins a case: topics and groups of earlier cases have no effect on it.
    fn fresh(&self) -> impl Future<Output = ()>;

    /// Publishes a message, and returns once the transport has confirmed it.
    fn publish(&self, message: NewMessage) -> impl Future<Output = Result<(), BoxError>>;

    /// Adds a consumer to `group`, which receives the messages that are published from the first subscription on.
    fn subscribe(&self, group: &str) -> impl Future<Output = Self::Source>;
}

/// Runs every case.
pub async fn all<T: Transport>(transport: &T) {
    cases::all(transport).await;
}

/// The limit of a case that waits for an event.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
