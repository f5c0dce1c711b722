//! A store that is unavailable for a long time, needs a manual repair, or refuses one message.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::telemetry::{Reading, Source as _};
use buttress_durable::outbox::{
    Config, HeadOfKey, Message, MessageId, Monitor, Outbox, Relay, RelayHandle, RelayId, Renewal,
    Store,
};
use tower::{BoxError, service_fn};

use super::faulty::{Faults, Faulty};
use super::world::*;
use crate::support::lines::Lines;

const MINUTE: Duration = Duration::from_secs(60);

fn relay(world: &World, store: &Faulty, config: Config) -> RelayHandle {
    let seen = world.clone();
    let publisher = service_fn(move |message: Message| {
        seen.saw(&message);
        async { Ok::<(), BoxError>(()) }
    });
    Relay::new(&Outbox::new(store.clone()), publisher, config).unwrap().spawn()
}

/// Regression: 600 operations and as many warnings per minute.
#[tokio::test(start_paused = true)]
async fn in_a_long_outage_waits_grow_and_two_lines_are_logged() {
    let lines = Lines::capture();
    let world = World::new();
    let store = Faults::over(&world.store);
    let relay = relay(&world, &store, config());
    world.write(&[(1, "a")]).await;
    pass(MINUTE).await;
    assert_eq!((lines.levels(), world.seen()), ((0, 0, 0), vec![1]));
    assert_eq!(relay.stats().store_failed, 0);
    store.hook().away(Some(StoreErrorKind::Transient));
    world.write(&[(2, "a")]).await;
    store.hook().asked();
    pass(10 * MINUTE).await;
    let asked = store.hook().asked();
    assert!((50..=250).contains(&asked), "{asked} questions in ten minutes");
    assert_eq!(lines.levels(), (0, 1, 0));
    assert_eq!(relay.stats().store_failed, asked as u64);
    store.hook().away(None);
    pass(Duration::from_secs(11)).await;
    assert_eq!(lines.levels(), (0, 0, 1));
    assert_eq!(world.seen(), [1, 2], "soon after the end of the outage");
}

/// An operator sees that the numbers of a monitor are old.
#[tokio::test(start_paused = true)]
async fn a_monitor_counts_the_queries_that_failed_and_keeps_its_numbers() {
    let world = World::new();
    let store = Faults::over(&world.store);
    let monitor = Monitor::new("orders", store.clone());
    let read = |name: &str| {
        let mut reading = Reading::new();
        monitor.read(&mut reading);
        reading.value(name, &[("layer", "orders")])
    };
    assert_eq!(read("buttress.outbox.refresh_failed"), Some(0.0));
    world.write(&[(1, "a")]).await;
    monitor.refresh().await.unwrap();
    store.hook().away(Some(StoreErrorKind::Transient));
    for _ in 0..2 {
        monitor.refresh().await.unwrap_err();
    }
    assert_eq!(read("buttress.outbox.refresh_failed"), Some(2.0));
    assert_eq!(read("buttress.outbox.backlog"), Some(1.0));
}

/// Caught by a random schedule: a batch of one key, whose head had failed, was fetched again and again without a
/// pause until the failure was recorded.
#[tokio::test(start_paused = true)]
async fn a_failure_that_cannot_be_recorded_is_waited_for_and_holds_only_its_key() {
    let world = World::new();
    let store = Faults::over(&world.store);
    for number in 1..=20 {
        world.write(&[(number, "a")]).await;
    }
    world.write(&[(21, "b")]).await;
    store.hook().fails("settle", Some(StoreErrorKind::Transient));
    let seen = world.clone();
    let publisher = service_fn(move |message: Message| {
        let failed = seen.seen().is_empty();
        seen.saw(&message);
        async move { if failed { Err::<(), BoxError>("busy".into()) } else { Ok(()) } }
    });
    let outbox = Outbox::new(store.clone());
    let _relay = Relay::new(&outbox, publisher, config().batch(4)).unwrap().spawn();
    pass(MINUTE).await;
    let asked = store.hook().asked();
    assert!((10..=250).contains(&asked), "{asked} questions in a minute");
    assert_eq!(world.seen(), [1, 21], "b does not wait for a");
    store.hook().fails("settle", None);
    pass(MINUTE).await;
    assert_eq!(world.seen()[2..], (1..=20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_is_never_answered_is_asked_again() {
    let world = World::new();
    let store = Faults::over(&world.store);
    store.hook().late("purge_delivered", 1_000 * MINUTE);
    let second = Duration::from_secs(1);
    let _relay = relay(&world, &store, config().keep_delivered(second, 10));
    world.write(&[(1, "a")]).await;
    pass(MINUTE).await;
    store.hook().late("purge_delivered", Duration::ZERO);
    world.write(&[(2, "a")]).await;
    pass(3 * MINUTE).await;
    assert_eq!(world.store.purge_delivered(Duration::ZERO, 10).await.unwrap(), 0);
}

/// Regression: each purge removed one batch and waited for its turn among other transactions, so its
/// rate depended on their number.
#[tokio::test(start_paused = true)]
async fn purges_grow_while_full_ones_come_back_however_long_each_takes() {
    let world = World::new();
    let store = Faults::over(&world.store);
    let second = Duration::from_secs(1);
    store.hook().late("purge_delivered", second);
    world.write(&(1..=310).map(|n| (n, "a")).collect::<Vec<_>>()).await;
    let _relay = relay(&world, &store, config().keep_delivered(10 * second, 10));
    pass(10 * second).await;
    assert_eq!(world.seen().len(), 310);
    // The first purge begins after 10 seconds and finds what was delivered immediately. Six purges
    // remove 10, 20, 40, 80, 80 and 80 messages.
    pass(Duration::from_millis(6_500)).await;
    assert_eq!(world.store.purge_delivered(Duration::ZERO, 1_000).await.unwrap(), 0);
}

/// Regression: a relay with a partition to release repeated a failed renewal at every poll.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_waits_although_a_partition_is_to_be_released() {
    let world = World::new();
    let store = Faults::over(&world.store);
    for number in 1..=40 {
        world.write(&[(number, &format!("key-{number}"))]).await;
    }
    let publisher = service_fn(|_: Message| async {
        pass(Duration::from_secs(5)).await;
        Ok::<(), BoxError>(())
    });
    let config = config().lease(100 * MINUTE).idle_poll(MINUTE);
    let _relay = Relay::new(&Outbox::new(store.clone()), publisher, config).unwrap().spawn();
    pass(Duration::from_secs(1)).await;
    // Half of the partitions are another relay's share, and most of them are busy.
    let other = RelayId::new(9);
    world.store.lease_partitions(Renewal::new(other, 100 * MINUTE, &[])).await.unwrap();
    pass(Duration::from_secs(3)).await;
    store.hook().fails("lease_partitions", Some(StoreErrorKind::Transient));
    pass(MINUTE).await;
    assert_eq!(world.store.backlog().await.unwrap().pending, 0);
    store.hook().asked();
    pass(10 * MINUTE).await;
    let asked = store.hook().asked();
    assert!((50..=250).contains(&asked), "{asked} questions in ten minutes");
    store.hook().fails("lease_partitions", None);
    pass(Duration::from_secs(11)).await;
    let owned = world.store.lease_partitions(Renewal::new(other, 100 * MINUTE, &[])).await.unwrap();
    assert_eq!(owned.leases.len(), 8, "the relay has released them");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_must_mend_is_asked_once_a_minute_and_logged_once() {
    let lines = Lines::capture();
    let world = World::new();
    let store = Faults::over(&world.store);
    store.hook().away(Some(StoreErrorKind::Misconfigured));
    let _relay = relay(&world, &store, config());
    world.write(&[(1, "a")]).await;
    pass(10 * MINUTE).await;
    let asked = store.hook().asked();
    assert!((9..=25).contains(&asked), "{asked} questions in ten minutes");
    assert_eq!(lines.levels(), (1, 0, 0));
    store.hook().away(None);
    pass(MINUTE).await;
    assert_eq!((lines.levels(), world.seen()), ((0, 0, 1), vec![1]));
}

/// One operation lacks a privilege, and the others work. An outage at the same time is logged
/// nevertheless.
#[tokio::test(start_paused = true)]
async fn one_operation_that_must_be_mended_is_logged_once() {
    for operation in ["purge_delivered", "settle", "fetch"] {
        let lines = Lines::capture();
        let world = World::new();
        let store = Faults::over(&world.store);
        store.hook().fails(operation, Some(StoreErrorKind::Misconfigured));
        let _relay = relay(&world, &store, config());
        world.write(&[(1, "a")]).await;
        pass(10 * MINUTE).await;
        assert_eq!(lines.levels(), (1, 0, 0), "{operation}");
        store.hook().away(Some(StoreErrorKind::Transient));
        pass(10 * MINUTE).await;
        assert_eq!(lines.levels(), (0, 1, 0), "{operation}");
        store.hook().away(None);
        store.hook().fails(operation, None);
        pass(2 * MINUTE).await;
        assert_eq!(lines.levels(), (0, 0, 2), "{operation}");
        assert_eq!(world.store.backlog().await.unwrap().pending, 0);
    }
}

/// Regression: one end of a delivery that the store refused kept the whole batch from being
/// recorded.
#[tokio::test(start_paused = true)]
async fn one_message_that_the_store_refuses_is_set_aside_alone() {
    for policy in [HeadOfKey::Continue, HeadOfKey::Block] {
        let lines = Lines::capture();
        let world = World::new();
        let store = Faults::over(&world.store);
        store.hook().refuse(MessageId::new(70));
        let relay = relay(&world, &store, config().head_of_key(policy));
        for number in 0..200 {
            world.write(&[(number, &format!("key-{}", number % 100))]).await;
        }
        pass(Duration::from_secs(30)).await;
        // Message 170, behind it, waits only where a dead letter would hold it.
        let held = usize::from(policy == HeadOfKey::Block);
        let pending = world.store.backlog().await.unwrap().pending as usize;
        assert_eq!(pending, 1 + held, "{policy:?}");
        let most = (0..200).map(|n| world.seen().iter().filter(|seen| **seen == n).count()).max();
        assert_eq!(most, Some(1), "nothing is published twice");
        let said = lines.take();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].1.contains("sets the message aside") && said[0].1.contains("trigger"),
            "{said:?}"
        );
        store.hook().mend();
        pass(2 * MINUTE).await;
        assert_eq!(world.store.backlog().await.unwrap().pending, 0, "{policy:?}");
        relay.shut_down().await;
        assert_eq!(world.seen().len(), 200);
    }
}

/// A refused end neither keeps the relay from ending nor the next relay from delivering again.
#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_left_to_the_next_relay() {
    let world = World::new();
    let store = Faults::over(&world.store);
    store.hook().refuse(MessageId::new(1));
    world.write(&[(1, "a"), (2, "a"), (3, "b")]).await;
    let first = relay(&world, &store, config());
    pass(Duration::from_secs(5)).await;
    first.shut_down().await;
    assert_eq!(world.store.backlog().await.unwrap().pending, 1);
    store.hook().mend();
    let _second = relay(&world, &store, config());
    pass(Duration::from_secs(5)).await;
    assert_eq!(world.store.backlog().await.unwrap().pending, 0);
    assert_eq!(world.seen().iter().filter(|seen| **seen == 1).count(), 2);
}

/// A store that refuses every end does not cause the whole outbox to be published.
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_everything_stops_the_relay() {
    let world = World::new();
    let store = Faults::over(&world.store);
    for number in 0..1000 {
        store.hook().refuse(MessageId::new(u128::from(number)));
        world.write(&[(number, &format!("key-{number}"))]).await;
    }
    let _relay = relay(&world, &store, config());
    pass(10 * MINUTE).await;
    let seen = world.seen().len();
    assert!((100..=300).contains(&seen), "{seen} were published");
}

/// A suspect whose start is refused does not keep other messages of its partition from being
/// published.
#[tokio::test(start_paused = true)]
async fn a_suspect_whose_start_is_refused_is_passed_over() {
    let world = World::new();
    world.write(&[(1, "a"), (2, "a"), (3, "a")]).await;
    let gone = buttress_durable::outbox::RelayId::new(7);
    let second = Duration::from_secs(1);
    let owned = world.store.lease_partitions(Renewal::new(gone, second, &[])).await.unwrap();
    world.store.fetch(gone, &owned.leases, 100).await.unwrap();
    pass(2 * second).await;
    let store = Faults::over(&world.store);
    store.hook().refuse(MessageId::new(1));
    let _relay = relay(&world, &store, config());
    pass(10 * second).await;
    assert_eq!(world.seen(), [1, 2, 3], "in order, once nothing is suspect");
}
