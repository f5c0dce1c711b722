//! Relay and consumers over quorum queues of RabbitMQ.

use std::path::Path;

use buttress_amqp::{Publish, Rabbit, Subscribe, Topic};
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::broker::Role;
use crate::handlers::Handlers;
use crate::worker::{self, Parts, relay};

/// Starts the part of `role`. Each run of the program has its own topic, whose queues stay on the server.
pub(crate) async fn start(
    url: &str,
    file: &Path,
    role: Role,
    with: (&SqliteStore, &Handlers),
) -> Result<Parts, BoxError> {
    let rabbit = Rabbit::new(url)?;
    let topic = Topic::new(worker::topic(file)?).shards(4);
    // Both groups exist before the first message: RabbitMQ keeps nothing for later groups.
    let group = |name| rabbit.subscribe(&topic, Subscribe::new(name));
    let groups = [group("billing").await?, group("shipping").await?];
    if role == Role::Relay {
        drop(groups);
        let publisher = rabbit.publisher(&topic, Publish::new()).await?;
        return Ok((Some(relay(with.0, publisher)?), Vec::new()));
    }
    worker::consumers(groups, with)
}
