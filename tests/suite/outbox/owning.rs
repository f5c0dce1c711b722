//! A relay acts only while it owns a partition, and a slow answer does not keep it from renewing.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::{Clock, StoreErrorKind};
use buttress_durable::outbox::{Message, Outbox, Relay, RelayHandle, RelayId, Renewal, Store};
use tower::{BoxError, Service, service_fn};

use super::faulty::{Faults, Faulty};
use super::world::*;

const SECOND: Duration = Duration::from_secs(1);
const AWAY: Option<StoreErrorKind> = Some(StoreErrorKind::Transient);

/// The publications: relay and message.
type Seen = Arc<Mutex<Vec<(&'static str, u32)>>>;

fn publisher(
    name: &'static str,
    seen: &Seen,
) -> impl Service<Message, Response = (), Error = BoxError, Future: Send> + Clone + Send + use<> {
    let seen = seen.clone();
    service_fn(move |message: Message| {
        seen.lock().unwrap().push((name, number(&message)));
        async { Ok::<_, BoxError>(()) }
    })
}

fn relay(name: &'static str, store: &Faulty, seen: &Seen) -> RelayHandle {
    Relay::new(&Outbox::new(store.clone()), publisher(name, seen), config()).unwrap().spawn()
}

/// Messages that a relay had fetched when it crashed. The next relay treats them as suspect.
async fn suspects(world: &World, numbers: &[u32]) {
    for number in numbers {
        world.write(&[(*number, "a")]).await;
    }
    let gone = RelayId::new(7);
    let owned = world.store.lease_partitions(Renewal::new(gone, SECOND, &[])).await.unwrap();
    let fetched = world.store.fetch(gone, &owned.leases, 100).await.unwrap();
    assert_eq!(fetched.messages.len(), numbers.len());
    pass(2 * SECOND).await;
}

/// Adds suspects, and returns a store whose answers to starts come late.
async fn late_starts(world: &World, numbers: &[u32]) -> Faulty {
    suspects(world, numbers).await;
    let slow = Faults::over(&world.store);
    slow.hook().late("record_start", 12 * SECOND);
    slow
}

/// Lets the relay of `slow` lose its lease. Starts a second relay, which takes the partitions.
async fn taken_over(world: &World, slow: &Faulty, seen: &Seen) -> RelayHandle {
    pass(SECOND).await;
    slow.hook().fails("lease_partitions", AWAY);
    pass(10 * SECOND).await;
    let second = relay("second", &Faults::over(&world.store), seen);
    pass(Duration::from_millis(500)).await;
    second
}

/// Regression: the answer to the start came after the lease had expired. The relay still published
/// the message, after another relay had delivered it and its successors.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_answered_after_the_lease_publishes_nothing() {
    let (world, seen) = (World::new(), Seen::default());
    let slow = late_starts(&world, &[1, 2, 3]).await;
    let _first = relay("first", &slow, &seen);
    let _second = taken_over(&world, &slow, &seen).await;
    assert_eq!(*seen.lock().unwrap(), [("second", 1), ("second", 2), ("second", 3)]);
    // The answer, and a renewal: a decision from before the lapse has no effect after it.
    slow.hook().fails("lease_partitions", None);
    pass(60 * SECOND).await;
    assert_eq!(seen.lock().unwrap().len(), 3, "{seen:?}");
    assert_eq!(world.store.backlog().await.unwrap().pending, 0);
}

/// The relay also writes no dead letter, although the answer says that the message crashed relays
/// too often.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_answered_after_the_lease_buries_nothing() {
    let (world, seen) = (World::new(), Seen::default());
    let slow = late_starts(&world, &[1]).await;
    slow.hook().fails("settle", AWAY);
    let outbox = Outbox::new(slow.clone());
    // The first owner of the suspect uses up its only start.
    let owner = RelayId::new(8);
    let owned = world.store.lease_partitions(Renewal::new(owner, SECOND, &[])).await.unwrap();
    let lease = owned.leases.iter().find(|lease| lease.suspect_to > 0).unwrap();
    let first = world.store.fetch(owner, &owned.leases, 1).await.unwrap();
    world.store.record_start(*lease, first.messages[0].id, 1).await.unwrap();
    pass(2 * SECOND).await;
    let config = config().max_starts(1);
    let _first = Relay::new(&outbox, publisher("first", &seen), config).unwrap().spawn();
    let _second = taken_over(&world, &slow, &seen).await;
    slow.hook().fails("lease_partitions", None);
    slow.hook().fails("settle", None);
    pass(60 * SECOND).await;
    let backlog = world.store.backlog().await.unwrap();
    assert_eq!((backlog.pending, backlog.dead), (0, 0));
    assert_eq!(*seen.lock().unwrap(), [("second", 1)]);
}

/// A start whose answer was not used is repeated, and counts once: an expired lease is not a proof of
/// a poison message.
#[tokio::test(start_paused = true)]
async fn a_start_that_was_not_used_counts_once() {
    let (world, seen) = (World::new(), Seen::default());
    let slow = late_starts(&world, &[1]).await;
    let outbox = Outbox::new(slow.clone());
    let config = config().max_starts(1);
    let _relay = Relay::new(&outbox, publisher("only", &seen), config).unwrap().spawn();
    pass(SECOND).await;
    slow.hook().fails("lease_partitions", AWAY);
    pass(12 * SECOND).await;
    slow.hook().fails("lease_partitions", None);
    slow.hook().late("record_start", Duration::ZERO);
    pass(60 * SECOND).await;
    assert_eq!(*seen.lock().unwrap(), [("only", 1)]);
    assert_eq!(world.store.backlog().await.unwrap().dead, 0);
}

/// Regression: the relay waited for an answer and did not renew meanwhile.
#[tokio::test(start_paused = true)]
async fn no_slow_answer_keeps_a_relay_from_renewing() {
    for operation in ["record_start", "fetch", "settle", "clear_suspects", "purge_delivered"] {
        let (world, seen) = (World::new(), Seen::default());
        suspects(&world, &[1, 2]).await;
        let slow = Faults::over(&world.store);
        let _relay = relay("slow", &slow, &seen);
        slow.hook().late(operation, 25 * SECOND);
        world.write(&[(3, "b"), (4, "c")]).await;
        for second in 0..150 {
            pass(SECOND).await;
            let thief = world
                .store
                .lease_partitions(Renewal::new(RelayId::new(9), SECOND, &[]))
                .await
                .unwrap();
            let stolen = thief.leases.len();
            world.store.release_partitions(RelayId::new(9)).await.unwrap();
            assert_eq!(stolen, 0, "{operation} at {second} s");
        }
        let mut numbers: Vec<u32> = seen.lock().unwrap().iter().map(|(_, seen)| *seen).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4], "{operation}");
    }
}

/// Regression: the publisher became ready after the lease had expired, and was called.
#[tokio::test(start_paused = true)]
async fn a_publisher_that_gets_ready_after_a_lapse_is_not_called() {
    let (world, seen) = (World::new(), Seen::default());
    world.write(&[(1, "a"), (2, "a")]).await;
    let slow = Faults::over(&world.store);
    // Ready after 12 seconds.
    let (clock, began) = (Clock::default(), Clock::default().now());
    let publisher = ReadyAt { at: began + 12 * SECOND, clock, inner: publisher("first", &seen) };
    let _first = Relay::new(&Outbox::new(slow.clone()), publisher, config()).unwrap().spawn();
    let _second = taken_over(&world, &slow, &seen).await;
    slow.hook().fails("lease_partitions", None);
    pass(60 * SECOND).await;
    assert_eq!(*seen.lock().unwrap(), [("second", 1), ("second", 2)]);
}

/// A service that is ready from an instant on.
#[derive(Clone)]
struct ReadyAt<S> {
    at: std::time::Instant,
    clock: Clock,
    inner: S,
}

impl<S: Service<Message>> Service<Message> for ReadyAt<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.clock.now() >= self.at {
            return self.inner.poll_ready(cx);
        }
        let (clock, at, waker) = (self.clock.clone(), self.at, cx.waker().clone());
        tokio::spawn(async move {
            clock.sleep_until(at).await;
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, message: Message) -> S::Future {
        self.inner.call(message)
    }
}

/// A fetch is answered after a renewal failed. The relay drops the messages, because the store may
/// have released their partition, and fetches them again as soon as a renewal succeeds.
#[tokio::test(start_paused = true)]
async fn what_was_dropped_after_a_failed_renewal_is_fetched_when_one_succeeds() {
    let (world, seen) = (World::new(), Seen::default());
    let store = Faults::over(&world.store);
    let config = config().lease(1_000 * SECOND).idle_poll(300 * SECOND);
    let outbox = Outbox::new(store.clone());
    let _relay = Relay::new(&outbox, publisher("only", &seen), config).unwrap().spawn();
    // The relay polls every 300 seconds by now, and next about 110 seconds from now.
    pass(900 * SECOND).await;
    store.hook().late("fetch", 310 * SECOND);
    world.write(&[(1, "a")]).await;
    pass(301 * SECOND).await;
    store.hook().late("fetch", Duration::ZERO);
    store.hook().fails("lease_partitions", AWAY);
    pass(311 * SECOND).await;
    assert_eq!(*seen.lock().unwrap(), [], "the answer has come");
    store.hook().fails("lease_partitions", None);
    pass(11 * SECOND).await;
    assert_eq!(*seen.lock().unwrap(), [("only", 1)]);
}
