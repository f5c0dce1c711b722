//! Several relays, leases, shut-downs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::outbox::{Message, Outbox, Relay, RelayId, Renewal, Store};

use super::faulty::Faults;
use super::world::*;
use crate::support::{Watch, ms, soon};

#[tokio::test(start_paused = true)]
async fn two_relays_share_the_work_and_keep_the_order() {
    let world = World::new();
    world.publishing_takes(ms(5));
    let (one, two) = (world.relay(config()), world.relay(config()));
    let keys: Vec<String> = (0..40).map(|key| format!("key-{key}")).collect();
    for round in 0..50_u32 {
        for (number, key) in (0_u32..).zip(&keys) {
            world.write(&[(round * 40 + number, key)]).await;
        }
        pass(ms(200)).await;
    }
    pass(ms(5000)).await;
    let seen = world.seen();
    assert_eq!(seen.len(), 2000, "each once: no relay crashed");
    for key in 0..40 {
        assert!(seen.iter().filter(|number| *number % 40 == key).is_sorted(), "key {key}");
    }
    assert!(one.stats().relayed == 2000 && two.stats().relayed == 2000, "they count together");
    // Each owns half, under load too.
    let probe =
        world.store.lease_partitions(Renewal::new(RelayId::new(1), ms(1), &[])).await.unwrap();
    assert_eq!(probe.leases, []);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_when_a_relay_comes_and_when_it_goes() {
    // Regression, found by the simulator: a partition that one relay released waited for the next
    // renewal of the other, a third of its lease: 10 s.
    let world = World::new();
    let lease = Duration::from_secs(30);
    let one = world.relay(config().lease(lease));
    let writer = world.clone();
    let writing = tokio::spawn(async move {
        for number in 0..3000_u32 {
            writer.write(&[(number, &format!("key-{}", number % 64))]).await;
            pass(ms(10)).await;
        }
    });
    pass(Duration::from_secs(8)).await;
    let two = world.relay(config().lease(lease));
    pass(Duration::from_secs(12)).await;
    one.shut_down().await;
    writing.await.unwrap();
    pass(Duration::from_secs(2)).await;
    assert_eq!(world.seen().len(), 3000);
    let longest = two.stats().lag_max;
    assert!(longest <= ms(1200), "a message waited for {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_its_share_of_a_busy_relay() {
    let world = World::new();
    world.publishing_takes(ms(5));
    let _one = world.relay(config());
    let writer = world.clone();
    let writing = tokio::spawn(async move {
        for number in 0..4000_u32 {
            writer.write(&[(number, &format!("key-{}", number % 64))]).await;
            pass(ms(2)).await;
        }
    });
    pass(ms(1000)).await;
    let newcomer = RelayId::new(7);
    let mut most = 0;
    for _ in 0..8 {
        let owned = world
            .store
            .lease_partitions(Renewal::new(newcomer, Duration::from_secs(5), &[]))
            .await
            .unwrap();
        most = owned.leases.len();
        pass(ms(1000)).await;
    }
    assert_eq!(most, 8, "half of sixteen");
    world.store.release_partitions(newcomer).await.unwrap();
    writing.await.unwrap();
    pass(Duration::from_secs(10)).await;
    let seen = world.seen();
    assert_eq!(seen.len(), 4000);
    for key in 0..64 {
        assert!(seen.iter().filter(|number| *number % 64 == key).is_sorted(), "key {key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_waits_for_what_is_under_way_and_starts_nothing() {
    let world = World::new();
    world.publishing_takes(ms(300));
    world.write(&[(1, "a"), (2, "a"), (3, "b")]).await;
    let relay = world.relay(config());
    pass(ms(100)).await;
    relay.shut_down().await;
    assert_eq!(world.seen(), [1, 3]);
    let backlog = world.store.backlog().await.unwrap();
    assert_eq!(backlog.pending, 1, "deliveries in flight are recorded");
    // Another relay continues immediately, and treats nothing as suspect.
    let started = world.times().len();
    world.publish(|_| async { Ok(()) });
    let next = world.relay(config());
    pass(ms(1)).await;
    assert_eq!(world.times()[started..], [(300, 2)]);
    assert_eq!(next.stats().redelivered, 0);
    relay.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_lease_ran_out_starts_nothing_and_is_fenced() {
    let world = World::new();
    let store = Faults::over(&world.store);
    let published = Arc::new(Mutex::new(Vec::new()));
    let seen = published.clone();
    let publisher = tower::service_fn(move |message: Message| {
        seen.lock().unwrap().push(number(&message));
        async {
            pass(ms(25_000)).await;
            Ok::<(), tower::BoxError>(())
        }
    });
    world.write(&[(1, "a"), (2, "a")]).await;
    let config = config().publish_timeout(Duration::from_secs(60));
    let old = Relay::new(&Outbox::new(store.clone()), publisher, config).unwrap().spawn();
    pass(ms(1)).await;
    store.hook().fails("lease_partitions", Some(StoreErrorKind::Transient));
    pass(ms(9_000)).await;
    let successor = RelayId::new(9);
    assert_eq!(
        world
            .store
            .lease_partitions(Renewal::new(successor, Duration::from_secs(60), &[]))
            .await
            .unwrap()
            .leases,
        []
    );
    pass(ms(1_000)).await;
    let taken = world
        .store
        .lease_partitions(Renewal::new(successor, Duration::from_secs(60), &[]))
        .await
        .unwrap()
        .leases;
    assert!(taken.iter().any(|lease| lease.suspect_to == 2), "{taken:?}");
    // The old relay ends its delivery, reports it, is refused, and does not continue with the next.
    pass(ms(30_000)).await;
    assert_eq!(*published.lock().unwrap(), [1]);
    assert_eq!((old.stats().relayed, world.store.backlog().await.unwrap().pending), (0, 2));
}

/// Regression: a caller that waited for the end of a relay whose task was aborted waited forever.
#[tokio::test(start_paused = true)]
async fn a_relay_that_is_dropped_has_ended() {
    let world = World::new();
    let relay = world.relay_of(config());
    let handle = relay.handle();
    let task = tokio::spawn(relay.run());
    pass(ms(1000)).await;
    let waits = tokio::spawn({
        let handle = handle.clone();
        async move { handle.shut_down().await }
    });
    task.abort();
    soon(waits).await.unwrap();
    soon(handle.shut_down()).await;
    // Also a relay that never began.
    let relay = world.relay_of(config());
    let handle = relay.handle();
    drop(relay.run());
    soon(handle.shut_down()).await;
}

/// Regression: each relay overwrote the partitions of the others with its own, and left them
/// behind.
#[tokio::test(start_paused = true)]
async fn what_relays_have_is_added_up_and_gone_when_they_are() {
    let world = World::new();
    world.publish(|_| std::future::pending());
    let (one, two) = (world.relay_of(config()), world.relay(config()));
    let (handle, one) = (one.handle(), tokio::spawn(one.run()));
    pass(Duration::from_secs(60)).await;
    let keys: Vec<String> = (0..64).map(|key| key.to_string()).collect();
    for (number, key) in (0..).zip(&keys) {
        world.write(&[(number, key)]).await;
    }
    pass(Duration::from_secs(2)).await;
    let gauges = || (handle.stats().partitions, handle.stats().in_flight);
    assert_eq!(gauges(), (16, 64));
    one.abort();
    pass(ms(1)).await;
    let (partitions, in_flight) = gauges();
    assert!(partitions == 8 && (1..64).contains(&in_flight), "{partitions}, {in_flight}");
    world.publish(|_| async { Ok(()) });
    soon(two.shut_down()).await;
    assert_eq!(gauges(), (0, 0));
}

/// Regression: only one relay was notified of a write, possibly not the owner of its key.
#[tokio::test(start_paused = true)]
async fn every_relay_of_the_process_is_told_of_what_was_written() {
    let world = World::new();
    let (one, _two) = (world.relay(config()), world.relay(config()));
    for number in 0..32 {
        // They poll rarely now.
        pass(Duration::from_secs(60)).await;
        let watch = Watch::start();
        world.write(&[(number, &format!("key-{number}"))]).await;
        while one.stats().relayed <= u64::from(number) {
            pass(ms(1)).await;
        }
        assert!(watch.ms() <= 1, "message {number} came after {} ms", watch.ms());
    }
}
