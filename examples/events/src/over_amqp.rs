//! Relay and consumers over quorum queues of RabbitMQ.

use buttress_amqp::{Publish, Rabbit, Subscribe, Topic};
use tower::BoxError;

use crate::broker::Role;
use crate::worker::{Parts, Process};

/// Starts the part of a process. Each run of the program has its own topic, whose queues stay on the server.
pub(crate) async fn start(process: Process) -> Result<Parts, BoxError> {
    let rabbit = Rabbit::new(&process.url)?;
    let topic = Topic::new(&process.topic).shards(4);
    // Both groups exist before the first message: RabbitMQ keeps nothing for later groups.
    let group = |name| rabbit.subscribe(&topic, Subscribe::new(name));
    let groups = [group("billing").await?, group("shipping").await?];
    if process.role == Role::Relay {
        drop(groups);
        return process.relay(rabbit.publisher(&topic, Publish::new()).await?);
    }
    process.consumers(groups)
}
