//! The client of Kafka. Only this folder names the crate `rdkafka`; another client replaces this folder.
//!
//! [`Producer`], [`Consumer`] and [`Admin`] translate single calls. The rest of the crate decides: what an [`Error`] means,
//! when a request is repeated, which positions are committed, and when a partition is released.
//!
//! The rest of the crate relies on these rules:
//! - [`Producer::send`] returns immediately. The client repeats a request without doubling messages or changing their order.
//! - A rebalance waits until the member has called [`Consumer::assign`] or [`Consumer::unassign`], once it has subscribed.
//! - [`Consumer::split`] before [`Consumer::assign`] brings all messages of the partition into its [`Queue`].
//! - Payloads are copied once in each direction: [`Producer::send`] copies, and a [`Message`] borrows.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

mod admin;
mod consumer;
mod error;
mod events;
mod message;
mod producer;

pub(crate) use admin::{Admin, Found};
pub(crate) use consumer::{Consumer, Queue};
pub(crate) use error::{Code, Error};
pub(crate) use events::{Event, Positions};
pub(crate) use message::Message;
pub(crate) use producer::{Confirmation, Outgoing, Producer};

/// The properties of a client. They have the names of librdkafka.
pub(crate) type Properties = BTreeMap<String, String>;

fn config(properties: &Properties) -> ClientConfig {
    let pairs = properties.iter();
    pairs.map(|(property, value)| (property.clone(), value.clone())).collect()
}

/// Logs a failure that the client repairs by itself.
pub(crate) fn log(result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::warn!(target: "buttress", %error, "the client refused to change the assignment of a member");
    }
}
