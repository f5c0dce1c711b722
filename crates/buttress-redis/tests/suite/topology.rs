//! Topics, groups, where a group begins, and errors that name a setting.

use std::time::{Duration, UNIX_EPOCH};

use buttress::{Clock, StoreErrorKind};
use buttress_redis::streams::{OpenError, SourceConfig, Start, Topic, Trim};
use buttress_redis::{Error, Redis};

use crate::consumers::{Collected, message, publish};
use crate::server::{Scene, Server, at, topic};

fn config() -> SourceConfig {
    SourceConfig::new().lease(Duration::from_secs(1))
}

#[tokio::test]
async fn events_2_12_a_new_group_begins_where_told() {
    let Some(scene) = Scene::of("where a group begins", 2).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    publish(&mut publisher, message("a", "old")).await;
    // Redis and this process may share a millisecond.
    Clock::default().sleep(Duration::from_millis(5)).await;
    let time: (u64, u64) = scene.ask(&["TIME"]).await;
    let later = UNIX_EPOCH + Duration::from_millis(time.0 * 1000 + time.1 / 1000);
    Clock::default().sleep(Duration::from_millis(5)).await;
    publish(&mut publisher, message("a", "middle")).await;
    let starts = [Start::First, Start::At(later), Start::New];
    let mut groups = Vec::new();
    for (number, start) in starts.into_iter().enumerate() {
        let group = format!("group-{number}");
        let source =
            scene.redis.source(scene.topic.clone(), &group, config().start(start)).await.unwrap();
        groups.push(Collected::by(source));
    }
    publish(&mut publisher, message("a", "new")).await;
    let expected = [&["old", "middle", "new"][..], &["middle", "new"], &["new"]];
    for (group, expected) in groups.iter().zip(expected) {
        group.until_has(expected.len()).await;
        assert_eq!(group.payloads(), expected);
    }
    // A group that exists stays where it is.
    groups.remove(0).consumer.shut_down().await;
    let again = scene
        .redis
        .source(scene.topic.clone(), "group-0", config().start(Start::First))
        .await
        .unwrap();
    let again = Collected::by(again);
    publish(&mut publisher, message("a", "last")).await;
    again.until_has(1).await;
    assert_eq!(again.payloads(), ["last"]);
    again.consumer.shut_down().await;
    for group in groups {
        group.consumer.shut_down().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn events_2_12_another_number_of_shards_is_an_error_that_names_it() {
    let Some(scene) = Scene::of("another number of shards", 4).await else { return };
    scene.publisher(Trim::Never).await;
    scene.publisher(Trim::Never).await;
    let error = scene.redis.publisher(topic(&scene.name, 8), Trim::Never).await.unwrap_err();
    assert!(matches!(&error, Error::Shards { wanted: 8, found, .. } if found == "4"), "{error:?}");
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    let error = scene.redis.source(topic(&scene.name, 8), "billing", config()).await.unwrap_err();
    assert!(error.to_string().contains("`shards` is 8"), "{error}");
    scene.end().await;
}

#[tokio::test]
async fn settings_out_of_their_bounds_are_named() {
    let long = "x".repeat(201);
    for name in ["", "a{b", "a\nb", &long] {
        assert!(matches!(Topic::new(name), Err(Error::Name { field: "topic", .. })), "{name}");
    }
    for shards in [0, 1025] {
        let error = Topic::new("a").unwrap().shards(shards).unwrap_err();
        assert!(matches!(error, Error::Name { field: "shards", .. }), "{error}");
    }
    let redis = Redis::new("redis://127.0.0.1:1").unwrap();
    for (config, field) in [
        (SourceConfig::new().lease(Duration::from_millis(99)), "lease"),
        (SourceConfig::new().handover(Duration::ZERO), "handover"),
        (SourceConfig::new().read_ahead(0), "read-ahead"),
        (SourceConfig::new().read_ahead(10_001), "read-ahead"),
    ] {
        let error = redis.source(topic("a", 1), "billing", config).await.unwrap_err();
        assert!(matches!(&error, OpenError::Config(why) if why.field() == field), "{error:?}");
    }
    let error = redis.source(topic("a", 1), "bill{ing", SourceConfig::new()).await.unwrap_err();
    assert!(matches!(error, OpenError::Redis(Error::Name { field: "group", .. })));
}

#[tokio::test]
async fn a_wrong_address_wrong_credentials_and_missing_rights_are_named() {
    assert!(matches!(Redis::new("127.0.0.1"), Err(Error::Address { .. })));
    let away = at("redis://127.0.0.1:1").publisher(topic("a", 1), Trim::Never).await.unwrap_err();
    assert!(
        matches!(&away, Error::Unavailable { address, .. } if address == "127.0.0.1:1"),
        "{away:?}"
    );
    assert_eq!(away.kind(), StoreErrorKind::Transient);
    let arguments = ["--requirepass", "secret"];
    let Some(server) = Server::start("wrong credentials", &arguments).await else { return };
    let port = server.port();
    for url in [format!("redis://127.0.0.1:{port}"), format!("redis://:wrong@127.0.0.1:{port}")] {
        let error = at(&url).publisher(topic("a", 1), Trim::Never).await.unwrap_err();
        assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    }
    let right = format!("redis://:secret@127.0.0.1:{port}");
    let arguments = ["ACL", "SETUSER", "reader", "on", ">x", "~*", "+@read", "+@connection"];
    let _: () = Scene::at(right.clone(), 1).ask(&arguments).await;
    let reader = at(&format!("redis://reader:x@127.0.0.1:{port}"));
    let error = reader.publisher(topic("a", 1), Trim::Never).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let redis = at(&right);
    assert!(!format!("{redis:?}").contains("secret"));
    redis.publisher(topic("a", 1), Trim::Never).await.unwrap();
}
