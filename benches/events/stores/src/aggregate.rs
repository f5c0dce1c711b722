//! The aggregate of the measurements: a sum, with events of about 200 bytes.

use std::convert::Infallible;
use std::time::Instant;

use buttress_durable::event::DomainEvent;
use buttress_durable::event_store::{
    Aggregate, Expected, Log, NewBatch, NewEvent, Store, StreamId,
};
use buttress_durable::outbox::MessageId;
use serde::{Deserialize, Serialize};

use crate::bench::{Append, Error, data, write};

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

/// Appends single events whose data says when they were made. Returns the appends per second.
pub async fn appends<S>(log: Log<S>, begun: Instant, streams: u64) -> Result<f64, Error>
where
    S: Store + Clone + 'static,
{
    write(streams, move |Append { stream, version, id }| {
        let log = log.clone();
        async move {
            let expected = Expected::Exactly((version - 1).into());
            let stream = StreamId::new("order", stream.to_string());
            log.append(&NewBatch::new(stream, expected, vec![event(id, data(begun))])).await?;
            Ok(())
        }
    })
    .await
}
