//! Relay and consumers over a topic of Kafka.

use std::path::Path;
use std::time::Duration;

use buttress_kafka::{Kafka, Publish, Subscribe, Topic};
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::broker::Role;
use crate::handlers::Handlers;
use crate::worker::{self, Parts, relay};

/// Brokers take no shorter session.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// Starts the part of `role`. Each run of the program has its own topic, which stays in Kafka.
pub(crate) async fn start(
    url: &str,
    file: &Path,
    role: Role,
    with: (&SqliteStore, &Handlers),
) -> Result<Parts, BoxError> {
    let kafka = Kafka::new(url.trim_start_matches("kafka://"));
    let topic = Topic::new(worker::topic(file)?).partitions(4);
    if role == Role::Relay {
        let publisher = kafka.publisher(&topic, Publish::new()).await?;
        return Ok((Some(relay(with.0, publisher)?), Vec::new()));
    }
    let group = |name| kafka.subscribe(&topic, Subscribe::new(name).session(SESSION));
    worker::consumers([group("billing").await?, group("shipping").await?], with)
}
