//! Brokers that fail, and answers that are errors or lost.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use buttress::Clock;
use buttress::{Classify as _, Outcome};
use buttress_durable::consume::{Settle, Source as _};
use buttress_kafka::{Kafka, Publish, PublishErrors, Topic};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};

use crate::broker::{Broker, free_port};
use crate::cluster::{Cluster, SECOND, fresh};
use crate::handled::{Handled, message, publish, receive, until};

const MS: Duration = Duration::from_millis(1);
const THE_BROKER: i32 = 1;

#[tokio::test]
async fn events_2_1_the_broker_is_away_at_random() {
    let cluster = Cluster::mock();
    let (topic, handled) = (cluster.topic("outages", 4), Handled::default());
    let publisher = cluster.kafka.publisher(&topic, Publish::new().limit(SECOND)).await.unwrap();
    let members = [
        handled.consumer(cluster.member(&topic).await, MS),
        handled.consumer(cluster.member(&topic).await, MS),
    ];
    for number in 0..60 {
        for key in ["a", "b", "c", "d", "e"] {
            publish(&publisher, key, &number.to_string()).await;
        }
        if number % 20 == 10 {
            cluster.mocked().broker_down(THE_BROKER).unwrap();
            Clock::default().sleep(700 * MS).await;
            cluster.mocked().broker_up(THE_BROKER).unwrap();
        }
    }
    until("every message is handled", || handled.distinct() == 300).await;
    handled.assert_first_in_order();
    for member in &members {
        member.shut_down().await;
    }
}

#[tokio::test]
async fn events_2_15_an_outage_is_an_error_within_the_limit_and_the_message_is_published_again() {
    let cluster = Cluster::mock();
    let topic = cluster.topic("outage", 1);
    let publisher = cluster.kafka.publisher(&topic, Publish::new().limit(SECOND)).await.unwrap();
    publish(&publisher, "a", "1").await;
    cluster.mocked().broker_down(THE_BROKER).unwrap();
    let (clock, paid) = (Clock::default(), message("a", "2"));
    let begun = clock.now();
    let error = publisher.publish(paid.clone()).await.unwrap_err();
    let took = clock.now() - begun;
    assert!(error.to_string().contains("no confirmation within 1s"), "{error}");
    assert!(took >= SECOND && took <= 10 * SECOND, "{took:?}");
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Ignored, "kept by the relay");
    cluster.mocked().broker_up(THE_BROKER).unwrap();
    while publisher.publish(paid.clone()).await.is_err() {
        assert!(clock.now() - begun < 60 * SECOND);
    }
}

#[tokio::test]
async fn events_2_15_a_lost_confirmation_does_not_double_the_message() {
    let (cluster, _, publisher) = Cluster::mock_with("repeated", 1).await;
    let errors = [
        Answer::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    ];
    cluster.mocked().request_errors(Api::Produce, &errors);
    for number in 0..5 {
        let published = publisher.publish(message("a", &number.to_string())).await.unwrap();
        assert_eq!((published.partition, published.offset), (0, number), "the client repeats");
    }
}

#[tokio::test]
async fn events_2_15_a_client_that_has_failed_for_good_is_replaced() {
    let cluster = Cluster::mock();
    let topic = cluster.topic("fatal", 1);
    let denied = [Answer::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED];
    cluster.mocked().request_errors(Api::InitProducerId, &denied);
    let publisher = cluster.publisher(&topic).await;
    let error = publisher.publish(message("a", "1")).await.unwrap_err();
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Ignored, "kept by the relay");
    publisher.publish(message("a", "1")).await.unwrap();
}

/// A broker may refuse the identity of a producer for good, and the client continues with the same identity. Tansu does so
/// after an outage in which a confirmation was lost: the publisher published nothing until its process ended.
#[tokio::test]
async fn events_2_15_a_client_whose_identity_is_refused_is_replaced() {
    let (cluster, _, publisher) = Cluster::mock_with("fenced", 1).await;
    publish(&publisher, "a", "1").await;
    let denied = [Answer::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED];
    let fenced = [Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED];
    cluster.mocked().request_errors(Api::InitProducerId, &denied);
    cluster.mocked().request_errors(Api::Produce, &fenced);
    let error = publisher.publish(message("a", "2")).await.unwrap_err();
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Ignored, "kept by the relay");
    publisher.publish(message("a", "2")).await.expect_err("a new client asks for a new identity");
    publisher.publish(message("a", "2")).await.unwrap();
}

fn signal(broker: &Broker, name: &str) {
    let mut kill = std::process::Command::new("kill");
    kill.arg(format!("-{name}")).arg(broker.0.id().to_string());
    assert!(kill.status().unwrap().success());
}

#[tokio::test]
async fn events_2_15_a_publisher_survives_a_broker_that_hangs() {
    const NAME: &str = "events_2_15_a_publisher_survives_a_broker_that_hangs";
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let Some(broker) = Broker::start(NAME, address, address).await else { return };
    let kafka = Kafka::new(address.to_string());
    let topic = Topic::new(fresh("hangs")).partitions(2);
    let publisher = kafka.publisher(&topic, Publish::new().limit(SECOND)).await.unwrap();
    publish(&publisher, "a", "1").await;
    signal(&broker, "STOP");
    // The signal takes a moment.
    while publisher.publish(message("a", "2")).await.is_ok() {}
    signal(&broker, "CONT");
    let (clock, begun) = (Clock::default(), Clock::default().now());
    while let Err(error) = publisher.publish(message("a", "2")).await {
        assert!(clock.now() - begun < 60 * SECOND, "{error}: {:?}", error.source());
    }
}

#[tokio::test]
async fn events_2_14_a_message_that_is_too_large_is_refused_and_says_its_size() {
    let cluster = Cluster::mock();
    let kafka = cluster.kafka.clone().set("message.max.bytes", "2000");
    let topic = cluster.topic("large", 1);
    let publisher = kafka.publisher(&topic, Publish::new()).await.unwrap();
    let error = publisher.publish(message("a", &"x".repeat(3000))).await.unwrap_err();
    assert!(error.is_lasting() && error.to_string().contains(": 3"), "{error}");
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Failure, "a dead letter");
    publisher.publish(message("a", "still here")).await.unwrap();
}

#[tokio::test]
async fn events_2_15_a_missing_topic_is_an_error_that_names_it() {
    let (cluster, topic, publisher) = Cluster::mock_with("gone", 1).await;
    let unknown = Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.mocked().topic_error(topic.name(), unknown).unwrap();
    let error = publisher.publish(message("a", "1")).await.unwrap_err();
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Ignored, "kept by the relay");
    let missing = Topic::new(topic.name()).partitions(1).create(false);
    let error = cluster.kafka.publisher(&missing, Publish::new()).await.unwrap_err();
    assert!(error.to_string().contains(topic.name()), "{error}");
}

/// A member whose commits get `errors` as their answers leaves. The next one begins after what it has handled.
async fn refused(what: &str, errors: &[Answer]) {
    let (cluster, topic, publisher) = Cluster::mock_with(what, 1).await;
    let first = cluster.member(&topic).await;
    publish(&publisher, "a", "0").await;
    first.want(1);
    let handled = receive(&first, |all| !all.messages.is_empty()).await;
    cluster.mocked().request_errors(Api::OffsetCommit, errors);
    first.settle(&[(handled.messages[0].token, Settle::Done)]).await.unwrap();
    first.close().await.unwrap();
    publish(&publisher, "a", "1").await;
    let second = cluster.member(&topic).await;
    second.want(1);
    let next = receive(&second, |all| !all.messages.is_empty()).await;
    assert_eq!(next.messages[0].payload, b"1", "the position was committed nevertheless");
    second.close().await.unwrap();
}

#[tokio::test]
async fn events_2_1_commits_that_fail_are_repeated() {
    // The client does not repeat these by itself.
    refused("commits", &[Answer::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE; 3]).await;
}

#[tokio::test]
async fn events_2_11_a_member_that_leaves_repeats_a_commit_that_a_rebalance_refuses() {
    // As many as the member sends in 3 seconds.
    refused("refused", &[Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 30]).await;
}

#[tokio::test]
async fn messages_that_retention_removed_are_counted_as_lost() {
    let cluster = Cluster::mock();
    let topic = cluster.topic("retention", 1);
    let (publisher, first) = (cluster.publisher(&topic).await, cluster.member(&topic).await);
    // The mock cluster keeps 5 MB of a partition.
    let large = "x".repeat(900_000);
    let mut end = 0;
    for _ in 0..10 {
        end = publisher.publish(message("a", &large)).await.unwrap().offset + 1;
    }
    first.want(20);
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < end as u64 {
        let batch = first.receive().await.unwrap();
        seen += batch.messages.len() as u64;
        lost += batch.lost;
    }
    assert!(lost > 0 && seen > 0, "{lost} lost, {seen} seen");
    assert_eq!(seen + lost, 10);
    first.close().await.unwrap();
}

#[tokio::test]
async fn an_outage_is_one_error_and_ends_with_an_answer() {
    let (cluster, topic, publisher) = Cluster::mock_with("one_error", 1).await;
    // Longer than the outage.
    let settings = cluster.group(&topic).session(10 * SECOND);
    let source = cluster.kafka.subscribe(&topic, settings).await.unwrap();
    source.want(10);
    publish(&publisher, "a", "1").await;
    receive(&source, |all| !all.messages.is_empty()).await;
    cluster.mocked().broker_down(THE_BROKER).unwrap();
    let error = source.receive().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains(&format!("the topic `{}`", topic.name())), "{error}");
    tokio::select! {
        answer = source.receive() => panic!("{answer:?}"),
        () = Clock::default().sleep(2 * SECOND) => {}
    }
    cluster.mocked().broker_up(THE_BROKER).unwrap();
    publish(&publisher, "a", "2").await;
    // On a busy machine the member can lose its partition nevertheless, and gets it again.
    receive(&source, |all| all.messages.iter().any(|message| message.payload == b"2")).await;
    source.close().await.unwrap();
}
