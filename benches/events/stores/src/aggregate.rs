//! The aggregate of the measurements: a sum, with events of about 200 bytes.

use std::convert::Infallible;

use buttress_durable::event::DomainEvent;
use buttress_durable::event_store::{Aggregate, NewEvent};
use buttress_durable::outbox::MessageId;
use serde::{Deserialize, Serialize};

/// Bytes of the text of an event.
pub const NOTE: usize = 150;

#[derive(Clone, Serialize, Deserialize)]
pub struct Added {
    pub number: u64,
    pub note: String,
}

#[derive(Default)]
pub struct Sum {
    pub total: u64,
}

pub struct Add(pub u64);

impl Added {
    pub fn new(number: u64) -> Self {
        Self { number, note: "x".repeat(NOTE) }
    }
}

impl DomainEvent for Added {
    const KINDS: &'static [(&'static str, u32)] = &[("sum.added", 1)];

    fn kind(&self) -> &'static str {
        "sum.added"
    }

    fn subject(&self) -> String {
        "sum".to_owned()
    }
}

impl Aggregate for Sum {
    const KIND: &'static str = "sum";
    type Event = Added;
    type Command = Add;
    type Error = Infallible;

    fn decide(&self, Add(number): &Add) -> Result<Vec<Added>, Infallible> {
        Ok(vec![Added::new(*number)])
    }

    fn apply(&mut self, event: &Added) {
        self.total += event.number;
    }
}

/// An event for appends without an aggregate.
pub fn event(id: u128, data: Vec<u8>) -> NewEvent {
    NewEvent::new(MessageId::new(id), "order.placed", data)
}
