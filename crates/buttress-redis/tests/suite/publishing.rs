//! Publishers: what they confirm, refuse, and trim.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::retry::Backoff;
use buttress_durable::event::Event;
use buttress_durable::outbox::{
    Config, MemoryStore, Message, MessageId, NewMessage, Outbox, Relay, Store as _,
};
use buttress_redis::Error;
use buttress_redis::streams::{PublishErrors, Trim};
use buttress_sim::TcpProxy;

use crate::consumers::{Collected, message, publish, try_publish};
use crate::server::{Scene, Server, at};

#[tokio::test]
async fn events_2_15_a_response_means_that_redis_has_the_message() {
    let Some(mut server) = Server::start("confirmations", &[]).await else { return };
    let scene = Scene::at(server.url(), 1);
    let proxy = TcpProxy::to(([127, 0, 0, 1], server.port()).into()).unwrap();
    // A busy machine does not miss it.
    let limit = Duration::from_secs(3);
    let redis = at(&format!("redis://{}", proxy.address())).limit(limit);
    let mut publisher = redis.publisher(scene.topic.clone(), Trim::Never).await.unwrap();
    publish(&mut publisher, message("a", "1")).await;
    assert_eq!(scene.length().await, 1);
    // The connection is cut: an error within the limit, and the next one connects again.
    proxy.refuse(true);
    proxy.cut();
    let clock = buttress::Clock::default();
    let begun = clock.now();
    let error = try_publish(&mut publisher, message("a", "2")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. } | Error::TooSlow { .. }), "{error:?}");
    assert!(clock.now() - begun < 4 * limit);
    proxy.refuse(false);
    crate::server::until("it works again", async || {
        try_publish(&mut publisher.clone(), message("a", "3")).await.is_ok()
    })
    .await;
    // A server that does not answer: the outcome is unknown after the limit.
    let _: () = scene.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    let begun = clock.now();
    let error = try_publish(&mut publisher, message("a", "4")).await.unwrap_err();
    assert!(matches!(error, Error::TooSlow { .. }), "{error:?}");
    assert!(clock.now() - begun < 4 * limit);
    server.kill();
    let error = try_publish(&mut publisher, message("a", "5")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
    // Redis has lost nothing that it confirmed.
    server.run().await.unwrap();
    assert!(scene.length().await >= 2);
}

#[tokio::test]
async fn an_outage_makes_no_dead_letters() {
    let Some(server) = Server::start("an outage of the relay", &[]).await else { return };
    let scene = Scene::at(server.url(), 1);
    let proxy = TcpProxy::to(([127, 0, 0, 1], server.port()).into()).unwrap();
    let redis = at(&format!("redis://{}", proxy.address())).limit(Duration::from_millis(300));
    let publisher = redis.publisher(scene.topic.clone(), Trim::Never).await.unwrap();
    let store = MemoryStore::new(buttress::Clock::default());
    let outbox = Outbox::new(store.clone());
    let millisecond = Duration::from_millis(1);
    let config = Config::new().retry(3, Backoff::fixed(millisecond)).poll(millisecond);
    let config = config.idle_poll(10 * millisecond);
    let relay = Relay::new(&outbox, publisher, config).unwrap().classify(PublishErrors).spawn();
    proxy.refuse(true);
    proxy.cut();
    for number in 1..=3_u8 {
        let mut tx = store.begin();
        let id = MessageId::new(number.into());
        let written = outbox.write(&mut tx, NewMessage::new(id, "a", [number])).await.unwrap();
        tx.commit();
        written.committed();
    }
    crate::server::until("many attempts", async || relay.stats().failed >= 10).await;
    proxy.refuse(false);
    // A publish that was not answered in time may be there too.
    crate::server::until("all are there", async || scene.length().await >= 3).await;
    crate::server::until("all are delivered", async || relay.stats().relayed == 3).await;
    assert_eq!((relay.stats().dead, store.backlog().await.unwrap().dead), (0, 0));
    relay.shut_down().await;
}

#[tokio::test]
async fn events_2_15_a_stream_that_was_removed_is_an_error() {
    let Some(scene) = Scene::of("a removed stream", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    scene.end().await;
    let error = try_publish(&mut publisher, message("a", "1")).await.unwrap_err();
    let stream = scene.stream();
    assert!(
        matches!(&error, Error::MissingStream { stream: named } if *named == stream),
        "{error:?}"
    );
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    // Declared again, it works again.
    scene.publisher(Trim::Never).await;
    publish(&mut publisher, message("a", "2")).await;
    scene.end().await;
}

#[tokio::test]
async fn events_2_14_a_header_that_would_be_read_as_another_is_refused() {
    let Some(scene) = Scene::of("an ambiguous header", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    for wrong in ["ce-", "ce-data", "ce-:x", "ce-.key", "ce-Big"] {
        let mut message = message("a", "1");
        message.headers.push((wrong.to_owned(), "1".to_owned()));
        let error = try_publish(&mut publisher, message).await.unwrap_err();
        assert!(matches!(&error, Error::Header { name } if name == wrong), "{error:?}");
    }
    assert_eq!(scene.length().await, 0);
    scene.end().await;
}

#[tokio::test]
async fn events_1_4_an_event_is_the_same_behind_redis() {
    let Some(scene) = Scene::of("the headers of an event", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    let source = scene.source("billing").await;
    let subject = "\u{00e9}".repeat(256);
    let mut sent = Vec::new();
    for (number, subject) in [(1, "order-7"), (2, &subject)] {
        let id = MessageId::new(number);
        let mut event = Event::new(id, "shop", "order.paid", subject.to_owned(), Vec::new());
        event.headers = vec![
            ("x-a".into(), "1".into()),
            ("x-a".into(), "\u{20ac} \0".into()),
            (String::new(), String::new()),
        ];
        let message = event.into_message().unwrap();
        sent.push(message.headers.clone());
        publish(&mut publisher, Message::new(message, 0, 0, Duration::ZERO)).await;
    }
    // The key and the topic differ from the attributes, or are absent.
    let mut other = message("key", "2");
    other.headers.push(("ce-subject".into(), "subject".into()));
    sent.push(other.headers.clone());
    publish(&mut publisher, other).await;
    use buttress_durable::consume::Source as _;
    source.want(10);
    let mut received = Vec::new();
    while received.len() < 3 {
        received.extend(source.receive().await.unwrap().messages);
    }
    let headers: Vec<_> = received.iter().map(|message| message.headers.clone()).collect();
    assert_eq!(headers, sent);
    let keys: Vec<_> = received.iter().map(|message| (&*message.key, &*message.topic)).collect();
    assert_eq!(keys, [("order-7", "order.paid"), (&*subject, "order.paid"), ("key", "order.paid")]);
    assert!(received[0].payload.is_empty());
    source.close().await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn handled_entries_are_trimmed_and_no_others() {
    let Some(scene) = Scene::of("handled entries", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Handled).await;
    let numbers = 0..1023;
    for number in numbers {
        publish(&mut publisher, message("a", number.to_string())).await;
    }
    assert_eq!(publisher.trim().await.unwrap(), 0, "there is no group");
    let fast = Collected::by(scene.source("fast").await);
    let late = scene.source("late").await;
    fast.until_has(1023).await;
    publish(&mut publisher, message("a", "1023")).await;
    fast.until_has(1024).await;
    assert_eq!(scene.length().await, 1024, "one group has handled nothing");
    let late = Collected::by(late);
    late.until_has(1024).await;
    crate::server::until("acknowledged", async || late.consumer.stats().held == 0).await;
    assert!(publisher.trim().await.unwrap() >= 900);
    assert!(scene.length().await < 124, "the publisher trims by itself too");
    assert_eq!(late.payloads(), (0..1024).map(|number| number.to_string()).collect::<Vec<_>>());
    late.consumer.shut_down().await;
    fast.consumer.shut_down().await;
    scene.end().await;
}
