//! Where messages go.

use std::collections::BTreeMap;

use buttress_kafka::Publish;

use crate::cluster::{Cluster, SECOND};
use crate::handled::message;

#[tokio::test]
async fn events_2_3_a_key_has_the_partition_that_a_client_for_java_gives_it() {
    let (_cluster, _, publisher) = Cluster::mock_with("keys", 8).await;
    let mut found = BTreeMap::new();
    for key in ["order-7", "a", "\u{e9}\u{1f680}"] {
        for _ in 0..3 {
            let published = publisher.publish(message(key, "1")).await.unwrap();
            let partition = *found.entry(key).or_insert(published.partition);
            assert_eq!(published.partition, partition, "{key}");
        }
    }
    // Murmur2 of the bytes, without the sign, modulo 8.
    let expected = [("a", murmur2("a") % 8), ("order-7", murmur2("order-7") % 8)];
    for (key, partition) in expected {
        assert_eq!(found[key], partition, "{key}");
    }
}

/// The hash of Kafka's clients for Java, without its sign.
fn murmur2(key: &str) -> i32 {
    let (bytes, m) = (key.as_bytes(), 0x5bd1_e995_u32);
    let mut hash = 0x9747_b28c ^ u32::try_from(bytes.len()).unwrap();
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(m);
        k ^= k >> 24;
        hash = hash.wrapping_mul(m) ^ k.wrapping_mul(m);
    }
    if !rest.is_empty() {
        let mut tail = [0; 4];
        tail[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(tail)).wrapping_mul(m);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(m);
    hash ^= hash >> 15;
    i32::try_from(hash & 0x7fff_ffff).unwrap()
}

#[tokio::test]
async fn a_publisher_that_is_dropped_ends_without_blocking_its_task() {
    let cluster = Cluster::mock();
    let topic = cluster.topic("dropped", 1);
    let settings = Publish::new().limit(30 * SECOND);
    let publisher = cluster.kafka.publisher(&topic, settings).await.unwrap();
    cluster.mocked().broker_down(1).unwrap();
    let second = publisher.clone();
    let publishing = tokio::spawn(async move { second.publish(message("a", "1")).await });
    tokio::task::yield_now().await;
    let (clock, begun) = (buttress::Clock::default(), buttress::Clock::default().now());
    publishing.abort();
    drop(publishing.await);
    drop(publisher);
    assert!(clock.now() - begun < 10 * SECOND, "{:?}", clock.now() - begun);
}
