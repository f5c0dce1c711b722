//! Relay and consumers over a topic of Kafka.

use std::time::Duration;

use buttress_kafka::{Kafka, Publish, Subscribe, Topic};
use tower::BoxError;

use crate::broker::Role;
use crate::worker::{Parts, Process};

/// Brokers take no shorter session.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// Starts the part of a process. Each run of the program has its own topic, which stays in Kafka.
pub(crate) async fn start(process: Process) -> Result<Parts, BoxError> {
    let kafka = Kafka::new(process.url.trim_start_matches("kafka://"));
    let topic = Topic::new(&process.topic).partitions(4);
    if process.role == Role::Relay {
        return process.relay(kafka.publisher(&topic, Publish::new()).await?);
    }
    let group = |name| kafka.subscribe(&topic, Subscribe::new(name).session(SESSION));
    process.consumers([group("billing").await?, group("shipping").await?])
}
