//! The topic, and settings that are refused.

use std::time::Duration;

use buttress_kafka::{Kafka, Publish, SetupError, Subscribe, Topic};

use crate::cluster::{Cluster, SECOND, fresh};

#[tokio::test]
async fn events_2_12_a_topic_is_created_once_and_another_number_of_partitions_is_refused() {
    let Some(cluster) = Cluster::broker("declarations of a topic") else { return };
    let (kafka, name) = (&cluster.kafka, fresh("declared"));
    let missing = kafka.publisher(&Topic::new(&name).create(false), Publish::new()).await;
    assert!(
        matches!(&missing, Err(SetupError::Missing { topic }) if *topic == name),
        "{missing:?}"
    );
    let declared = Topic::new(&name).partitions(3).create(false);
    for _ in 0..2 {
        kafka.publisher(&Topic::new(&name).partitions(3), Publish::new()).await.unwrap();
        kafka.subscribe(&declared, cluster.group(&declared)).await.unwrap();
    }
    let error = kafka.publisher(&Topic::new(&name), Publish::new()).await.unwrap_err();
    let expected = format!("partitions: 8 is configured, but the topic `{name}` has 3");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn settings_out_of_their_bounds_are_named() {
    let (kafka, topic, ms) = (Kafka::new("127.0.0.1:1"), Topic::new("a"), Duration::from_millis(1));
    let group = Subscribe::new("a");
    let refused = |error: SetupError, field: &str| {
        assert!(matches!(&error, SetupError::Invalid(error) if error.field() == field), "{error}");
    };
    for (topic, field) in [
        (Topic::new(""), "topic"),
        (Topic::new(".."), "topic"),
        (Topic::new("a b"), "topic"),
        (Topic::new("a\0"), "topic"),
        (Topic::new("a".repeat(250)), "topic"),
        (topic.clone().partitions(0), "partitions"),
        (topic.clone().replicas(0), "replicas"),
    ] {
        refused(kafka.publisher(&topic, Publish::new()).await.unwrap_err(), field);
    }
    for (settings, field) in [
        (Subscribe::new("a\0"), "group"),
        (group.clone().session(ms), "session"),
        (group.clone().grace(61 * SECOND), "grace"),
        (group.clone().window(0), "window"),
    ] {
        refused(kafka.subscribe(&topic, settings).await.unwrap_err(), field);
    }
    let limit = Publish::new().limit(ms);
    refused(kafka.publisher(&topic, limit).await.unwrap_err(), "limit");
    for property in ["acks", "enable.auto.commit", "group.id", "no.such.property"] {
        let kafka = kafka.clone().set(property, "1");
        refused(kafka.subscribe(&topic, group.clone()).await.unwrap_err(), property);
    }
}

// The client waited 10 seconds for a broker that it could not connect to.
#[tokio::test]
async fn addresses_without_a_broker_are_refused_immediately() {
    let url = "kafka://user:secret@127.0.0.1:9092";
    for (brokers, shown) in
        [("", "``"), (" ,", "``"), (url, "`kafka://..`"), ("a:1,http://b:1", "`http://..`")]
    {
        let error =
            Kafka::new(brokers).publisher(&Topic::new("a"), Publish::new()).await.unwrap_err();
        assert!(
            matches!(&error, SetupError::Invalid(error) if error.field() == "brokers"),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(shown) && text.contains("host:port") && !text.contains("secret"),
            "{text}"
        );
    }
    // The client takes these.
    let cluster = Cluster::mock();
    let brokers = format!("PLAINTEXT://{}, ", cluster.brokers);
    let topic = cluster.topic("scheme", 1);
    Kafka::new(brokers).publisher(&topic, Publish::new()).await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_named_and_secrets_are_not_shown() {
    let kafka = Kafka::new("127.0.0.1:1").set("client.id", "secret");
    assert!(!format!("{kafka:?}").contains("secret"));
    let error = kafka.publisher(&Topic::new("a"), Publish::new()).await.unwrap_err();
    let expected = "brokers: cannot find the topic `a`: no broker of 127.0.0.1:1 answered";
    assert_eq!(error.to_string(), expected);
    assert!(std::error::Error::source(&error).is_some());
}
