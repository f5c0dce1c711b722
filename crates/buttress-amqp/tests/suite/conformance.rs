//! The conformance suites of sources and their topology.

use buttress_sim::conformance::source::{all, topology};

use crate::world::world;

#[tokio::test]
async fn events_2_rabbitmq_with_one_shard_passes_every_case() {
    let Some(mut world) = world("the conformance suite of sources", 1).await else { return };
    // A case has 150 messages of one key that fails, and other keys in the same shard.
    world.prefetch = Some(300);
    all(&world).await;
    world.end().await;
}

#[tokio::test]
async fn events_2_rabbitmq_with_eight_shards_passes_every_case() {
    let Some(world) = world("the conformance suite of sources", 8).await else { return };
    all(&world).await;
    world.end().await;
}

#[tokio::test]
async fn events_2_12_rabbitmq_passes_every_case_of_the_topology() {
    let Some(world) = world("the conformance suite of the topology", 2).await else { return };
    topology(&world).await;
    world.end().await;
}
