//! The publisher of a relay.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use buttress::{Classify as _, Clock, Outcome};
use buttress_durable::event::Event;
use buttress_durable::outbox::{Message, MessageId, NewMessage};
use buttress_nats::async_nats::ConnectOptions;
use buttress_nats::{Nats, Publish, PublishError, PublishErrors, Topic};

use crate::server::{self, Fresh, Server};

fn message(key: &str, payload: impl Into<Vec<u8>>) -> Message {
    let id = MessageId::random(&buttress::Rng::default());
    Message::new(NewMessage::new(id, key, payload).topic("order.paid"), 0, 0, Duration::ZERO)
}

#[tokio::test]
async fn events_2_15_ok_only_after_the_confirmation_and_a_duplicate_is_ok() {
    let Some(fresh) = Fresh::of("the confirmation of a publisher", 8).await else { return };
    let publisher = fresh.publisher().await;
    let paid = message("order-7", "paid");
    let first = publisher.publish(paid.clone()).await.unwrap();
    let again = publisher.publish(paid.clone()).await.unwrap();
    assert_eq!((first.sequence, first.duplicate), (1, false));
    assert_eq!((again.sequence, again.duplicate), (1, true), "stored once");
    let stream = fresh.stream().await;
    let stored = stream.get_raw_message(1).await.unwrap();
    assert_eq!(stored.headers.get("Nats-Msg-Id").unwrap().as_str(), paid.id.to_string());
    let shard = NewMessage::partition("order-7", 8);
    assert_eq!(stored.subject.as_str(), format!("{}.{shard}", fresh.name));
    fresh.remove().await;
}

#[tokio::test]
async fn events_7_1_an_event_has_its_attributes_as_the_binding_of_nats_says() {
    let Some(fresh) = Fresh::of("the headers of an event", 8).await else { return };
    let publisher = fresh.publisher().await;
    let event = Event::new(MessageId::new(7), "shop", "order.paid", "\u{fc} 7", b"1".to_vec());
    let written = event.into_message().unwrap();
    publisher.publish(Message::new(written, 0, 0, Duration::ZERO)).await.unwrap();
    let stored = fresh.stream().await.get_raw_message(1).await.unwrap();
    let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("ce-type").as_deref(), Some("order.paid"));
    assert_eq!(header("ce-subject").as_deref(), Some("%C3%BC%207"));
    assert_eq!(header("ce-id"), header("Nats-Msg-Id"));
    fresh.remove().await;
}

#[tokio::test]
async fn events_2_15_no_stream_is_an_error_that_names_the_topic() {
    let Some(fresh) = Fresh::of("a missing stream", 8).await else { return };
    let publisher = fresh.publisher().await;
    fresh.remove().await;
    let error = publisher.publish(message("a", "1")).await.unwrap_err();
    assert!(
        matches!(&error, PublishError::NoStream { subject } if subject.starts_with(&fresh.name)),
        "{error:?}"
    );
    assert!(error.to_string().starts_with("topic: no stream"), "{error}");
    let judged: Result<(), _> = Err(error);
    assert_eq!(PublishErrors.classify(&judged), Outcome::Ignored, "the relay keeps the message");
}

#[tokio::test]
async fn events_2_14_a_message_that_is_too_large_is_refused_and_a_full_stream_too() {
    let Some(nats) = server::nats("limits of a message").await else { return };
    let fresh = Fresh::new(&nats, "limits");
    let topic = Topic::new(&fresh.name).max_bytes(1_000_000);
    let publisher = nats.publisher(&topic, Publish::new()).await.unwrap();
    let largest = nats.client().server_info().max_payload;
    let error = publisher.publish(message("a", vec![0; largest])).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { limit, .. } if limit == largest), "{error:?}");
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Failure);
    publisher.publish(message("a", vec![0; 900_000])).await.unwrap();
    let error = publisher.publish(message("a", vec![0; 900_000])).await.unwrap_err();
    assert!(
        matches!(&error, PublishError::Full { stream, .. } if *stream == fresh.name),
        "{error:?}"
    );
    publisher.publish(message("a", "still connected")).await.unwrap();
    fresh.remove().await;
}

#[tokio::test]
async fn events_2_15_an_outage_is_an_error_within_the_limit_and_a_late_confirmation_is_unknown() {
    let Some(mut own) = Server::start("an outage of the server").await else { return };
    let nats = Nats::connect(&own.address().to_string(), ConnectOptions::new()).await.unwrap();
    let (topic, limit) = (Topic::new("orders"), Duration::from_millis(400));
    let publisher = nats.publisher(&topic, Publish::new().limit(limit)).await.unwrap();
    own.pause(true);
    let clock = Clock::default();
    let (paid, begun, error) = loop {
        let (paid, begun) = (message("a", "paid"), clock.now());
        // The signal takes a moment.
        if let Err(error) = publisher.publish(paid.clone()).await {
            break (paid, begun, error);
        }
    };
    let took = clock.now() - begun;
    assert!(matches!(error, PublishError::Unconfirmed { .. }), "{error:?}");
    assert!(took >= limit && took < 25 * limit, "{took:?}");
    assert_eq!(PublishErrors.classify(&Err::<(), _>(error)), Outcome::Ignored);
    own.pause(false);
    // A busy server needs longer than the limit.
    let again = loop {
        match publisher.publish(paid.clone()).await {
            Ok(published) => break published,
            Err(error) => assert!(clock.now() - begun < 150 * limit, "{error}"),
        }
    };
    assert!(again.duplicate, "the server had it: sent again, stored once");
    own.kill();
    while nats.client().connection_state()
        == buttress_nats::async_nats::connection::State::Connected
    {
        clock.sleep(Duration::from_millis(5)).await;
    }
    let begun = clock.now();
    let error = publisher.publish(message("a", "2")).await.unwrap_err();
    assert!(matches!(error, PublishError::Disconnected { .. }), "{error:?}");
    assert!(clock.now() - begun < 25 * limit);
    own.restart().await;
    let publisher = nats.publisher(&topic, Publish::new()).await.unwrap();
    publisher.publish(message("a", "2")).await.unwrap();
}

#[tokio::test]
async fn a_wrong_address_and_wrong_credentials_are_named() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let error = Nats::connect(&free.to_string(), ConnectOptions::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("address: cannot connect to 127.0.0.1:"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let Some(own) =
        Server::with("wrong credentials", &["--user", "shop", "--pass", "secret"]).await
    else {
        return;
    };
    let options = ConnectOptions::with_user_and_password("shop".into(), "wrong".into());
    let error = Nats::connect(&own.address().to_string(), options).await.unwrap_err();
    assert!(error.to_string().starts_with("credentials: cannot connect to 127.0.0.1:"), "{error}");
}
