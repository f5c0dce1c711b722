//! The stream of a topic, the consumers of a group, and where a group starts.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::Source as _;
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::{
    Nats, Publish, Publisher, Retain, SetupError, Start, Storage, Subscribe, Subscription, Topic,
};

use crate::server::{self, Fresh};

async fn publish(publisher: &Publisher, payload: &str) {
    let id = MessageId::random(&buttress::Rng::default());
    let new = NewMessage::new(id, "order-7", payload);
    publisher.publish(Message::new(new, 0, 0, Duration::ZERO)).await.unwrap();
}

/// Returns the next payload of a subscription.
async fn next(subscription: &Subscription) -> String {
    subscription.want(1);
    loop {
        let batch = subscription.receive().await.unwrap();
        if let [message] = &batch.messages[..] {
            return String::from_utf8(message.payload.clone()).unwrap();
        }
    }
}

#[tokio::test]
async fn events_2_12_a_new_group_starts_where_it_was_told() {
    let Some(nats) = server::nats("where a group starts").await else { return };
    let fresh = Fresh::new(&nats, "start");
    let publisher = nats.publisher(&fresh.topic, Publish::new()).await.unwrap();
    publish(&publisher, "1").await;
    Clock::default().sleep(Duration::from_millis(20)).await;
    let between = std::time::UNIX_EPOCH + Clock::default().unix();
    Clock::default().sleep(Duration::from_millis(20)).await;
    publish(&publisher, "2").await;
    let subscribe = async |group: &str, start| {
        nats.subscribe(&fresh.topic, Subscribe::new(group).start(start)).await.unwrap()
    };
    let first = subscribe("first", Start::First).await;
    let at = subscribe("at", Start::At(between)).await;
    let new = subscribe("new", Start::New).await;
    publish(&publisher, "3").await;
    assert_eq!(
        (next(&first).await, next(&at).await, next(&new).await),
        ("1".into(), "2".into(), "3".into())
    );
    // A group that exists continues, wherever another member would start it.
    first.close().await.unwrap();
    let second = subscribe("first", Start::New).await;
    assert_eq!(next(&second).await, "1", "it was not settled");
    fresh.remove().await;
}

#[tokio::test]
async fn events_2_12_a_mismatch_names_the_argument() {
    let Some(nats) = server::nats("mismatches of a topic").await else { return };
    let fresh = Fresh::new(&nats, "mismatch");
    let name = &*fresh.name;
    let missing = nats.publisher(&Topic::new(name).create(false), Publish::new()).await;
    assert!(
        matches!(&missing, Err(SetupError::Missing { stream }) if stream == name),
        "{missing:?}"
    );
    for _ in 0..2 {
        nats.publisher(&Topic::new(name), Publish::new()).await.unwrap();
        nats.subscribe(&Topic::new(name), Subscribe::new("billing")).await.unwrap();
    }
    nats.publisher(&Topic::new(name).create(false), Publish::new()).await.unwrap();
    for (topic, argument) in [
        (Topic::new(name).shards(4), "shards"),
        (Topic::new(name).shards(9), "shards"),
        (Topic::new(name).retain(Retain::UntilHandled), "retain"),
        (Topic::new(name).retain(Retain::For(Duration::from_secs(3600))), "retain"),
        (Topic::new(name).storage(Storage::Memory), "storage"),
        (Topic::new(name).replicas(3), "replicas"),
        (Topic::new(name).max_bytes(1000), "max-bytes"),
        (Topic::new(name).duplicate_window(Duration::from_secs(60)), "duplicate-window"),
    ] {
        let error = nats.publisher(&topic, Publish::new()).await.unwrap_err();
        assert!(
            matches!(&error, SetupError::Mismatch { argument: found, of, .. } if *found == argument && of == name),
            "{error:?}"
        );
        assert!(error.to_string().starts_with(argument), "{error}");
    }
    let ack_wait = Subscribe::new("billing").ack_wait(Duration::from_secs(60));
    let error = nats.subscribe(&fresh.topic, ack_wait).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ack-wait: 60s is configured, but `billing-0` on the server has 30s"
    );
    fresh.remove().await;
}

#[tokio::test]
async fn settings_out_of_their_bounds_are_named() {
    let Some(nats) = server::nats("bounds of settings").await else { return };
    let (ms, topic) = (Duration::from_millis(1), Topic::new("never-created"));
    for (topic, field) in [
        (Topic::new(""), "topic"),
        (Topic::new("a.b"), "topic"),
        (Topic::new("a").shards(0), "shards"),
        (Topic::new("a").shards(257), "shards"),
        (Topic::new("a").replicas(0), "replicas"),
        (Topic::new("a").max_bytes(0), "max-bytes"),
        (Topic::new("a").duplicate_window(ms), "duplicate-window"),
        (Topic::new("a").retain(Retain::For(Duration::from_secs(60))), "duplicate-window"),
        (Topic::new("a").retain(Retain::For(ms)), "retain"),
    ] {
        let error = nats.publisher(&topic, Publish::new()).await.unwrap_err();
        assert!(matches!(&error, SetupError::Invalid(error) if error.field() == field), "{error}");
    }
    for (settings, field) in [
        (Subscribe::new("a>b"), "group"),
        (Subscribe::new("a".repeat(65)), "group"),
        (Subscribe::new("a").lease(ms), "lease"),
        (Subscribe::new("a").ack_wait(ms), "ack-wait"),
    ] {
        let error = nats.subscribe(&topic, settings).await.unwrap_err();
        assert!(matches!(&error, SetupError::Invalid(error) if error.field() == field), "{error}");
    }
    let error = nats.publisher(&topic, Publish::new().limit(ms)).await.unwrap_err();
    assert!(matches!(&error, SetupError::Invalid(error) if error.field() == "limit"), "{error}");
}

#[tokio::test]
async fn an_address_is_shown_without_user_and_password() {
    let address = "nats://me:secret@127.0.0.1:1, me:secret@127.0.0.1:2";
    let error = Nats::connect(address, ConnectOptions::new()).await.unwrap_err();
    let expected = "address: cannot connect to nats://127.0.0.1:1, 127.0.0.1:2";
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}
