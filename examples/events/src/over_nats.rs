//! Relay and consumers over JetStream of NATS.

use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::{Nats, Publish, Subscribe, Topic};
use tower::BoxError;

use crate::broker::Role;
use crate::worker::{LEASE, Parts, Process};

/// Starts the part of a process. Each run of the program has its own topic, whose streams stay on the server.
pub(crate) async fn start(process: Process) -> Result<Parts, BoxError> {
    let nats = Nats::connect(&process.url, ConnectOptions::new()).await?;
    let topic = Topic::new(&process.topic).shards(4);
    if process.role == Role::Relay {
        return process.relay(nats.publisher(&topic, Publish::new()).await?);
    }
    let group = |name| nats.subscribe(&topic, Subscribe::new(name).lease(LEASE));
    process.consumers([group("billing").await?, group("shipping").await?])
}
