//! Topics, groups, and errors that name a setting.

use std::error::Error as _;
use std::io::Read as _;
use std::net::TcpListener;
use std::time::Duration;

use buttress_amqp::lapin::ExchangeKind;
use buttress_amqp::lapin::options::ExchangeDeclareOptions;
use buttress_amqp::{Publish, Rabbit, SetupError, Subscribe, Topic};

use crate::server;
use crate::world::billing;

#[tokio::test]
async fn events_2_12_a_mismatch_names_the_argument() {
    let Some(world) = billing("mismatches of a topic", 2).await else { return };
    let topic = world.topic();
    for _ in 0..2 {
        world.rabbit.publisher(&topic, Publish::new()).await.unwrap();
        world.rabbit.subscribe(&topic, Subscribe::new("billing")).await.unwrap();
    }
    for shards in [1, 3] {
        let other = topic.clone().shards(shards);
        let error = world.rabbit.publisher(&other, Publish::new()).await.unwrap_err();
        let expected = format!(
            "shards: {shards} is configured, but `{}.shards` on the server has 2",
            world.name()
        );
        assert_eq!(error.to_string(), expected);
    }
    for (settings, argument) in [
        (Subscribe::new("billing").delivery_limit(7), "delivery-limit"),
        (Subscribe::new("billing").max_bytes(1000), "max-bytes"),
        (Subscribe::new("billing").retry_after(Duration::from_secs(1)), "retry-after"),
    ] {
        let error = world.rabbit.subscribe(&topic, settings).await.unwrap_err();
        assert!(
            matches!(&error, SetupError::Mismatch { argument: found, of, .. }
                if *found == argument && of.starts_with(&world.name())),
            "{error:?}"
        );
        assert!(error.to_string().starts_with(argument), "{error}");
    }
    let (_connection, channel) = world.channel().await;
    let (name, foreign) = server::topic("foreign");
    let (kind, options) =
        (ExchangeKind::Fanout, ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel
        .exchange_declare(name.as_str().into(), kind, options, Default::default())
        .await
        .unwrap();
    let error = world.rabbit.publisher(&foreign, Publish::new()).await.unwrap_err();
    let expected = format!("type: topic is configured, but `{name}` on the server has fanout");
    assert_eq!(error.to_string(), expected);
    channel.exchange_delete(name.as_str().into(), Default::default()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_12_a_topic_that_may_not_be_created_is_missing_by_name() {
    let Some(world) = billing("a missing topic", 2).await else { return };
    let (name, topic) = server::topic("missing");
    let error = world.rabbit.publisher(&topic.create(false), Publish::new()).await.unwrap_err();
    assert!(matches!(&error, SetupError::Missing { name: found } if *found == name), "{error:?}");
    let known = world.topic().create(false);
    world.rabbit.publisher(&known, Publish::new()).await.unwrap();
    world.rabbit.subscribe(&known, Subscribe::new("billing")).await.unwrap();
    let error = world.rabbit.subscribe(&known, Subscribe::new("mail")).await.unwrap_err();
    let queue = format!("{}.mail.0", world.name());
    assert!(matches!(&error, SetupError::Missing { name } if *name == queue), "{error:?}");
    world.end().await;
}

#[tokio::test]
async fn settings_out_of_their_bounds_are_named() {
    let rabbit = Rabbit::new("amqp://127.0.0.1:1").unwrap();
    let ms = Duration::from_millis(1);
    for (topic, field) in [
        (Topic::new(""), "topic"),
        (Topic::new("a.b"), "topic"),
        (Topic::new("a").shards(0), "shards"),
        (Topic::new("a").shards(257), "shards"),
    ] {
        let error = rabbit.publisher(&topic, Publish::new()).await.unwrap_err();
        assert!(matches!(&error, SetupError::Invalid(error) if error.field() == field), "{error}");
    }
    for (settings, field) in [
        (Subscribe::new("a>b"), "group"),
        (Subscribe::new("a".repeat(65)), "group"),
        (Subscribe::new("a").prefetch(0), "prefetch"),
        (Subscribe::new("a").prefetch(2001), "prefetch"),
        (Subscribe::new("a").delivery_limit(0), "delivery-limit"),
        (Subscribe::new("a").max_bytes(0), "max-bytes"),
        (Subscribe::new("a").retry_after(Duration::ZERO), "retry-after"),
    ] {
        let error = rabbit.subscribe(&Topic::new("a"), settings).await.unwrap_err();
        assert!(matches!(&error, SetupError::Invalid(error) if error.field() == field), "{error}");
    }
    for (settings, field) in
        [(Publish::new().limit(ms), "limit"), (Publish::new().largest(0), "largest")]
    {
        let error = rabbit.publisher(&Topic::new("a"), settings).await.unwrap_err();
        assert!(matches!(&error, SetupError::Invalid(error) if error.field() == field), "{error}");
    }
    let error = rabbit.clone().limit(ms).publisher(&Topic::new("a"), Publish::new()).await;
    assert!(matches!(&error, Err(SetupError::Invalid(error)) if error.field() == "limit"));
    let error = rabbit.dead(&Topic::new("a"), "b.c").unwrap_err();
    assert!(matches!(&error, SetupError::Invalid(error) if error.field() == "group"), "{error}");
}

/// The client connects without encryption to an address with `amqps` if none of its TLS libraries is switched on. It
/// sent the password in plain text.
#[tokio::test]
async fn an_address_with_tls_is_refused_by_a_client_without_and_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, mut sent) = (listener.accept().unwrap().0, Vec::new());
        // A reset has the same meaning as an end.
        let _end = stream.read_to_end(&mut sent);
        sent
    });
    let rabbit = Rabbit::new(&format!("amqps://user:secret@127.0.0.1:{port}")).unwrap();
    let error = rabbit.publisher(&Topic::new("tls"), Publish::new()).await.err().unwrap();
    assert_eq!(error.to_string(), format!("address: cannot connect to 127.0.0.1:{port}"));
    let (mut cause, mut causes) = (error.source(), String::new());
    while let Some(error) = cause {
        causes += &error.to_string();
        cause = error.source();
    }
    assert!(causes.contains("rustls--ring"), "{causes}");
    assert_eq!(String::from_utf8_lossy(&server.join().unwrap()), "");
}
