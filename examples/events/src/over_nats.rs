//! Relay and consumers over JetStream of NATS.

use std::path::Path;

use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::{Nats, Publish, Subscribe, Topic};
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::broker::Role;
use crate::handlers::Handlers;
use crate::worker::{self, LEASE, Parts, relay};

/// Starts the part of `role`. Each run of the program has its own topic, whose streams stay on the server.
pub(crate) async fn start(
    url: &str,
    file: &Path,
    role: Role,
    with: (&SqliteStore, &Handlers),
) -> Result<Parts, BoxError> {
    let nats = Nats::connect(url, ConnectOptions::new()).await?;
    let topic = Topic::new(worker::topic(file)?).shards(4);
    if role == Role::Relay {
        let publisher = nats.publisher(&topic, Publish::new()).await?;
        return Ok((Some(relay(with.0, publisher)?), Vec::new()));
    }
    let group = |name| nats.subscribe(&topic, Subscribe::new(name).lease(LEASE));
    worker::consumers([group("billing").await?, group("shipping").await?], with)
}
