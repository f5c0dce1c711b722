//! Connections that are cut, servers that are killed, leases that end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Answer, Received, Settle, Source as _};
use buttress_redis::streams::{RedisSource, RedisToken, Trim};

use crate::consumers::{Collected, Handled, message, publish, try_publish};
use crate::server::{Scene, Server, until};

/// Receives `count` messages. They can come in several batches, and a batch can be empty.
async fn take(source: &RedisSource, count: usize) -> Vec<Received<RedisToken>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(source.receive().await.unwrap().messages);
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

/// The first handlings of each key are the numbers from 0 on.
fn in_order(handled: &[(String, String)]) -> BTreeMap<String, usize> {
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for (key, payload) in handled {
        let number: usize = payload.parse().unwrap();
        let next = next.entry(key.clone()).or_default();
        assert!(number <= *next, "{key}: {number} came before {next}");
        *next = (*next).max(number + 1);
    }
    next
}

#[tokio::test]
async fn events_2_1_connections_are_cut_at_random() {
    let Some(scene) = Scene::of("connections that are cut", 4).await else { return };
    let proxy = scene.proxy();
    let mut publisher = scene.publisher(Trim::Handled).await;
    let (handled, mut consumers) = (Handled::default(), Vec::new());
    for _ in 0..2 {
        let source = scene.source_through(&proxy).await;
        let handled = handled.clone();
        consumers.push(Collected::into(handled, source, |_| Duration::from_millis(1)));
    }
    let clock = Clock::default();
    for number in 0..100 {
        for key in ["a", "b", "c", "d", "e"] {
            publish(&mut publisher, message(key, number.to_string())).await;
        }
        if number % 10 == 5 {
            proxy.cut();
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    let all = || handled.lock().unwrap().clone();
    until("every message is handled", async || BTreeSet::from_iter(all()).len() == 500).await;
    assert!(in_order(&all()).into_values().all(|count| count == 100), "first handlings in order");
    for consumer in &consumers {
        assert!(consumer.consumer.stats().failed_operations > 0, "the cuts were noticed");
    }
    for consumer in consumers {
        consumer.consumer.shut_down().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn events_2_1_the_broker_is_killed_and_restarted() {
    let Some(mut server) = Server::start("a server that is killed", &[]).await else { return };
    let mut scene = Scene::at(server.url(), 2);
    scene.redis = scene.redis.limit(Duration::from_millis(500));
    let mut publisher = scene.publisher(Trim::Handled).await;
    let source = scene.source("billing").await;
    let consumer = Collected::after(source, |_| Duration::from_millis(1));
    for round in 0..3 {
        for number in round * 50..(round + 1) * 50 {
            for key in ["a", "b"] {
                // As a relay does: again until it is confirmed, one of a key at a time.
                while try_publish(&mut publisher, message(key, number.to_string())).await.is_err() {
                    Clock::default().sleep(Duration::from_millis(10)).await;
                }
            }
            if number == round * 50 + 25 {
                server.kill();
                server.run().await.unwrap();
            }
        }
    }
    until("all are handled", async || BTreeSet::from_iter(consumer.handled()).len() == 300).await;
    assert_eq!(in_order(&consumer.handled()), [("a".into(), 150), ("b".into(), 150)].into());
    let stats = consumer.consumer.stats();
    assert!(stats.failed_operations > 0, "{stats:?}");
    consumer.consumer.shut_down().await;
}

#[tokio::test]
async fn events_3_an_owner_that_was_overtaken_reads_and_acknowledges_nothing() {
    let Some(scene) = Scene::of("an overtaken owner", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    let first = scene.source("billing").await;
    publish(&mut publisher, message("a", "1")).await;
    first.want(10);
    let held = take(&first, 1).await;
    publish(&mut publisher, message("a", "2")).await;
    // Nothing renews the lease: another member takes over, and gets the first message before the second.
    let second = scene.source("billing").await;
    second.want(10);
    let taken = take(&second, 2).await;
    let payloads: Vec<_> = taken.iter().map(|message| &*message.payload).collect();
    assert_eq!(payloads, [b"1", b"2"]);
    assert_eq!(taken[0].redeliveries, Some(1), "Redis counts deliveries");
    assert_eq!(taken[1].redeliveries, Some(0));
    // The first member sees that its lease is over, by its own clock and by the script.
    let late = first.settle(&[(held[0].token, Settle::Done)]).await.unwrap();
    assert_eq!(late, [Answer::Late]);
    let batch = first.receive().await.unwrap();
    assert_eq!((batch.messages.len(), batch.revoked.len()), (0, 1));
    let pending: (usize, String, String, Vec<(String, String)>) =
        scene.ask(&["XPENDING", &scene.stream(), "billing"]).await;
    assert_eq!(pending.0, 2, "nothing was acknowledged");
    let done: Vec<_> = taken.iter().map(|message| (message.token, Settle::Done)).collect();
    assert_eq!(second.settle(&done).await.unwrap(), [Answer::Taken; 2]);
    assert_eq!(second.settle(&done).await.unwrap(), [Answer::Taken; 2], "again, without effect");
    second.close().await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn events_3_a_read_checks_the_lease_in_redis() {
    let Some(scene) = Scene::of("a read without a lease", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    let source = scene.source("billing").await;
    publish(&mut publisher, message("a", "1")).await;
    source.want(10);
    take(&source, 1).await;
    // A script reads the first message, and a transaction the second, which leaves a watch on the lease.
    publish(&mut publisher, message("a", "2")).await;
    take(&source, 1).await;
    // The source does not know yet that another process has the lease.
    let lease = format!("{{{}}}:lease:billing:0", scene.name);
    let _: String = scene.ask(&["SET", &lease, "another"]).await;
    publish(&mut publisher, message("a", "3")).await;
    let batch = source.receive().await.unwrap();
    assert_eq!((batch.messages.len(), batch.revoked.len()), (0, 1));
    let pending: Vec<redis::Value> = scene.ask(&["XPENDING", &scene.stream(), "billing"]).await;
    assert_eq!(pending[0], redis::Value::Int(2), "the third message was not read");
    scene.end().await;
}

#[tokio::test]
async fn events_3_pending_entries_that_were_trimmed_are_lost_loudly() {
    let Some(scene) = Scene::of("trimmed entries", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    let first = scene.source("billing").await;
    for payload in ["1", "2", "3"] {
        publish(&mut publisher, message("a", payload)).await;
    }
    first.want(10);
    take(&first, 3).await;
    drop(first);
    let _: u64 = scene.ask(&["XTRIM", &scene.stream(), "MAXLEN", "1"]).await;
    let second = scene.source("billing").await;
    let second = Collected::by(second);
    second.until_has(1).await;
    until("the loss is counted", async || second.consumer.stats().lost == 2).await;
    assert_eq!(second.payloads(), ["3"]);
    second.consumer.shut_down().await;
    scene.end().await;
}

#[tokio::test]
async fn events_2_9_a_handler_that_takes_longer_than_the_lease_runs_once() {
    let Some(scene) = Scene::of("a long handler", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let source = scene.source("billing").await;
        consumers.push(Collected::after(source, |delivery| match delivery.payload() {
            b"slow" => Duration::from_secs(7),
            _ => Duration::ZERO,
        }));
    }
    publish(&mut publisher, message("a", "slow")).await;
    publish(&mut publisher, message("a", "next")).await;
    let all = || consumers.iter().flat_map(Collected::payloads).collect::<Vec<_>>();
    until("both are handled", async || all().len() >= 2).await;
    Clock::default().sleep(Duration::from_secs(4)).await;
    assert_eq!(all(), ["slow", "next"]);
    // A shutdown keeps the lease too, while a handler runs.
    publish(&mut publisher, message("a", "slow")).await;
    until("it runs", async || {
        consumers.iter().any(|consumer| consumer.consumer.stats().running == 1)
    })
    .await;
    let at = consumers.iter().position(|consumer| consumer.consumer.stats().running == 1).unwrap();
    consumers[at].consumer.clone().shut_down().await;
    Clock::default().sleep(Duration::from_secs(4)).await;
    let all: Vec<_> = consumers.iter().flat_map(Collected::payloads).collect();
    assert_eq!(all.iter().filter(|payload| *payload == "slow").count(), 2, "{all:?}");
    for consumer in consumers {
        consumer.consumer.shut_down().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn events_3_a_group_that_was_removed_is_an_error_that_names_it() {
    let Some(scene) = Scene::of("a removed group", 1).await else { return };
    let source = scene.source("billing").await;
    scene.end().await;
    source.want(1);
    let error = source.receive().await.unwrap_err();
    assert!(error.is_misconfigured(), "{error}");
    assert!(error.to_string().contains("group `billing`"), "{error}");
    scene.end().await;
}

/// The error was once the last report of an outage until the next entry. The consumer stayed degraded.
#[tokio::test]
async fn an_outage_is_an_error_and_ends_with_an_answer() {
    let Some(scene) = Scene::of("an outage", 1).await else { return };
    let proxy = scene.proxy();
    let source = scene.source_through(&proxy).await;
    source.want(1);
    let mut receiving = std::pin::pin!(source.receive());
    let (clock, begun) = (Clock::default(), Clock::default().now());
    let error = loop {
        tokio::select! {
            answer = &mut receiving => break answer.unwrap_err(),
            () = clock.sleep(Duration::from_millis(20)) => proxy.cut(),
        }
        assert!(clock.now() - begun < Duration::from_secs(60), "no cut was noticed");
    };
    assert!(error.is_transient(), "{error}");
    // A cut may have been late.
    while clock.now() - begun < Duration::from_secs(60) {
        if let Ok(batch) = source.receive().await {
            assert!(batch.messages.is_empty(), "{batch:?}");
            return;
        }
    }
    panic!("the end of the outage was not reported");
}

/// A source has three connections. Each was once found broken for itself, so one cut was several outages in the log.
#[tokio::test]
async fn a_cut_of_all_connections_is_one_error() {
    let Some(scene) = Scene::of("a cut of all connections", 1).await else { return };
    let mut publisher = scene.publisher(Trim::Never).await;
    let proxy = scene.proxy();
    let source = scene.source_through(&proxy).await;
    for round in 0..3 {
        source.want(10);
        for number in 0..3 {
            publish(&mut publisher, message("a", number.to_string())).await;
            while source.receive().await.unwrap().messages.is_empty() {}
        }
        proxy.cut();
        publish(&mut publisher, message("a", "3")).await;
        let mut errors = 0;
        loop {
            match source.receive().await {
                Ok(batch) if batch.messages.is_empty() => {}
                Ok(_) => break,
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    errors += 1;
                }
            }
        }
        assert!(errors <= 1, "round {round}: {errors} errors");
        // The lease of one second ends after these renewals.
        let mut receiving = std::pin::pin!(source.receive());
        tokio::select! {
            answer = &mut receiving => assert!(answer.is_ok(), "round {round}: {answer:?}"),
            () = Clock::default().sleep(Duration::from_secs(1)) => {}
        }
    }
    scene.end().await;
}
