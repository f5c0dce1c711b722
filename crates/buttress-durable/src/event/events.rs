//! [`Events`]: makes the events of one source.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use buttress::{Clock, Rng};

use super::domain::DomainEvent;
use super::envelope::Event;
use crate::outbox::MessageId;

/// A factory for the events of one source, with random ids and the current time. Cheap to clone.
#[derive(Clone, Debug)]
#[must_use]
pub struct Events {
    source: Cow<'static, str>,
    clock: Clock,
    rng: Rng,
}

impl Events {
    /// Creates a maker of events whose `source` is the given name, e.g. `"orders"` or
    /// `"https://shop.example/orders"`. CloudEvents asks for a URI reference. The source must not be empty.
    pub fn new(source: impl Into<Cow<'static, str>>) -> Self {
        Self { source: source.into(), clock: Clock::default(), rng: Rng::default() }
    }

    /// Sets the clock of the events' times. Default: tokio's clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the source of random ids. Default: a source with a different seed in every process.
    pub fn rng(self, rng: Rng) -> Self {
        Self { rng, ..self }
    }

    /// Makes an event of `data`, with a new id and the current time. Correlation id and trace come from the current
    /// [context](buttress::context). Inside a consumer's handler the event that is handled is the causation.
    pub fn event<T: DomainEvent>(&self, data: T) -> Event<T> {
        let (kind, version, subject) = (data.kind(), data.version(), data.subject());
        let mut event =
            Event::new(MessageId::random(&self.rng), self.source.clone(), kind, subject, data);
        event.version = version;
        event.time = UNIX_EPOCH.checked_add(self.clock.unix());
        event
    }
}
