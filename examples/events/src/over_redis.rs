//! Relay and consumers over streams of Redis.

use buttress_redis::Redis;
use buttress_redis::streams::{SourceConfig, Topic, Trim};
use tower::BoxError;

use crate::broker::Role;
use crate::worker::{LEASE, Parts, Process};

/// Starts the part of a process. Each run of the program has its own topic, which stays in Redis.
pub(crate) async fn start(process: Process) -> Result<Parts, BoxError> {
    let redis = Redis::new(&process.url)?;
    let topic = Topic::new(process.topic.as_str())?.shards(4)?;
    // Both groups exist before the first message: the relay trims what all groups have handled.
    let group = |name| redis.source(topic.clone(), name, SourceConfig::new().lease(LEASE));
    let groups = [group("billing").await?, group("shipping").await?];
    if process.role == Role::Relay {
        return process.relay(redis.publisher(topic, Trim::Handled).await?);
    }
    process.consumers(groups)
}
