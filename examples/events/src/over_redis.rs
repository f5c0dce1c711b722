//! Relay and consumers over streams of Redis.

use std::path::Path;

use buttress_redis::Redis;
use buttress_redis::streams::{RedisSource, SourceConfig, Topic, Trim};
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::broker::Role;
use crate::handlers::Handlers;
use crate::worker::{self, LEASE, Parts, relay};

/// Starts the part of `role`. Each run of the program has its own topic, which stays in Redis.
pub(crate) async fn start(
    url: &str,
    file: &Path,
    role: Role,
    with: (&SqliteStore, &Handlers),
) -> Result<Parts, BoxError> {
    let redis = Redis::new(url)?;
    let topic = Topic::new(worker::topic(file)?)?.shards(4)?;
    // Both groups exist before the first message: the relay trims what all groups have handled.
    let groups =
        [source(&redis, &topic, "billing").await?, source(&redis, &topic, "shipping").await?];
    if role == Role::Relay {
        let publisher = redis.publisher(topic, Trim::Handled).await?;
        return Ok((Some(relay(with.0, publisher)?), Vec::new()));
    }
    worker::consumers(groups, with)
}

async fn source(redis: &Redis, topic: &Topic, group: &str) -> Result<RedisSource, BoxError> {
    Ok(redis.source(topic.clone(), group, SourceConfig::new().lease(LEASE)).await?)
}
