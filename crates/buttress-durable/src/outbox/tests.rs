//! Deliveries that hold the lock of the relay's own store while the lease ends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buttress::Clock;
use buttress::retry::{Backoff, Jitter};
use tokio::sync::OwnedMutexGuard;
use tower::{BoxError, service_fn};

use super::*;
use crate::answer::Answer;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);

/// The lock of a file: one writer at a time, first come, first served.
type Lock = Arc<tokio::sync::Mutex<()>>;

/// A store whose writes wait for a lock.
#[derive(Clone)]
struct Locked {
    store: MemoryStore,
    lock: Lock,
    /// How long the answers to renewals take.
    late: Arc<Mutex<Duration>>,
}

impl Store for Locked {
    async fn lease_partitions(&self, renewal: Renewal<'_>) -> Answer<Owned> {
        let turn = self.lock.lock().await;
        let owned = self.store.lease_partitions(renewal).await;
        drop(turn);
        let late = *self.late.lock().unwrap();
        pass(late).await;
        owned
    }

    async fn release_partitions(&self, relay: RelayId) -> Answer<()> {
        let _turn = self.lock.lock().await;
        self.store.release_partitions(relay).await
    }

    async fn fetch(&self, relay: RelayId, leases: &[Lease], limit: usize) -> Answer<Fetched> {
        let _turn = self.lock.lock().await;
        self.store.fetch(relay, leases, limit).await
    }

    async fn record_start(&self, lease: Lease, id: MessageId, claim: u64) -> Answer<u32> {
        let _turn = self.lock.lock().await;
        self.store.record_start(lease, id, claim).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Answer<()> {
        let _turn = self.lock.lock().await;
        self.store.clear_suspects(lease).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Answer<Vec<u16>> {
        let _turn = self.lock.lock().await;
        self.store.settle(settled).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Answer<Vec<DeadLetter>> {
        self.store.dead_letters(after, limit).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Answer<usize> {
        self.store.requeue(ids).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Answer<usize> {
        self.store.discard(ids).await
    }

    async fn backlog(&self) -> Answer<Backlog> {
        self.store.backlog().await
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Answer<usize> {
        let _turn = self.lock.lock().await;
        self.store.purge_delivered(age, limit).await
    }
}

/// A relay over a locked store. Each delivery takes the lock, and holds it for a scripted time.
struct World {
    store: Locked,
    start: Instant,
    /// When deliveries began, and the message.
    began: Arc<Mutex<Vec<(u64, u32)>>>,
    /// How long the next deliveries hold the lock, the last of them first. Later ones release it immediately.
    holds: Arc<Mutex<Vec<Duration>>>,
    /// Whether deliveries take the lock of the store.
    locks: bool,
}

impl World {
    fn new(holds: &[Duration]) -> Self {
        let clock = Clock::default();
        let store = MemoryStore::new(clock.clone());
        let store = Locked { store, lock: Lock::default(), late: Arc::default() };
        let holds = Arc::new(Mutex::new(holds.iter().rev().copied().collect()));
        Self { store, start: clock.now(), began: Arc::default(), holds, locks: true }
    }

    async fn write(&self, number: u32, key: &str) {
        let outbox = Outbox::new(self.store.store.clone());
        let message = NewMessage::new(MessageId::new(number.into()), key, number.to_be_bytes());
        let mut tx = self.store.store.begin();
        let _written = outbox.write(&mut tx, message).await.unwrap();
        tx.commit();
    }

    fn relay(&self, config: Config) -> RelayHandle {
        let (lock, start) = (self.store.lock.clone(), self.start);
        let (began, holds, locks) = (self.began.clone(), self.holds.clone(), self.locks);
        let publisher = service_fn(move |message: Message| {
            let clock = Clock::default();
            let at = clock.now().saturating_duration_since(start).as_millis();
            let number = message.id.get();
            began.lock().unwrap().push((at.try_into().unwrap(), number.try_into().unwrap()));
            let hold = holds.lock().unwrap().pop();
            let lock = lock.clone();
            async move {
                let _turn: Option<OwnedMutexGuard<()>> = match locks {
                    true => Some(lock.lock_owned().await),
                    false => None,
                };
                if let Some(hold) = hold {
                    clock.sleep(hold).await;
                }
                Ok::<(), BoxError>(())
            }
        });
        Relay::new(&Outbox::new(self.store.clone()), publisher, config).unwrap().spawn()
    }

    /// Returns the times in milliseconds at which deliveries began, and their messages.
    fn began(&self) -> Vec<(u64, u32)> {
        self.began.lock().unwrap().clone()
    }

    /// Asserts how many messages are pending and dead.
    async fn assert_left(&self, pending: u64, dead: u64) {
        let backlog = self.store.backlog().await.unwrap();
        assert_eq!((backlog.pending, backlog.dead), (pending, dead));
    }
}

fn config() -> Config {
    let backoff = Backoff::fixed(SECOND).jitter(Jitter::None);
    Config::new().retry(2, backoff).lease(LEASE)
}

async fn pass(time: Duration) {
    Clock::default().sleep(time).await;
}

/// Regression: the relay waited for the renewal, the renewal for the lock, and the paused delivery held
/// the lock: forever. The delivery of "b" waits for the same lock. It does not add a pause of its own.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_keeps_the_lease_from_being_renewed_is_dropped_after_three_seconds() {
    let world = World::new(&[12 * SECOND]);
    world.write(1, "a").await;
    world.write(2, "b").await;
    let relay = world.relay(config());
    pass(60 * SECOND).await;
    let began = world.began();
    assert_eq!(began.len(), 4, "{began:?}");
    assert_eq!(began[..2], [(0, 1), (0, 2)]);
    // The lease ends after 10 seconds, the first delivery would continue after 12, and is dropped after 15.
    assert!(began[2..].iter().all(|(at, _)| *at == 15_000), "{began:?}");
    world.assert_left(0, 0).await;
    let stats = relay.stats();
    assert_eq!((stats.relayed, stats.failed, stats.dead), (2, 0, 0));
    relay.shut_down().await;
}

/// The answer to a renewal comes after the lease that the relay knows of, and before the renewed one ends.
#[tokio::test(start_paused = true)]
async fn a_delivery_continues_if_the_store_answers_within_the_pause() {
    let mut world = World::new(&[Duration::from_millis(10_200)]);
    world.locks = false;
    world.write(1, "a").await;
    let relay = world.relay(config());
    pass(SECOND / 2).await;
    *world.store.late.lock().unwrap() = Duration::from_millis(9_500);
    // Renewed at 1 s and answered at 10.5 s. The lease that the relay knew of ended at 10 s.
    pass(Duration::from_millis(9_900)).await;
    assert_eq!(relay.stats().relayed, 0, "paused");
    pass(SECOND / 2).await;
    assert_eq!((relay.stats().relayed, world.began()), (1, vec![(0, 1)]));
    world.assert_left(0, 0).await;
}

/// A suspect that is dropped has not crashed the relay, however often.
#[tokio::test(start_paused = true)]
async fn the_start_of_a_dropped_suspect_counts_once() {
    let world = World::new(&[12 * SECOND; 4]);
    world.write(1, "a").await;
    let crashed = RelayId::new(7);
    let owned = world.store.lease_partitions(Renewal::new(crashed, SECOND, &[])).await.unwrap();
    world.store.fetch(crashed, &owned.leases, 10).await.unwrap();
    pass(2 * SECOND).await;
    let relay = world.relay(config().max_starts(1));
    pass(120 * SECOND).await;
    world.assert_left(0, 0).await;
    assert_eq!((world.began().len(), relay.stats().dead), (5, 0));
}

/// The advice of the guide: with a publish timeout of half a lease, a delivery that holds the lock too long has failed
/// before the lease ends. The relay does not repeat it forever.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_holds_the_lock_beyond_a_short_publish_timeout_becomes_a_dead_letter() {
    let world = World::new(&[1000 * SECOND; 2]);
    world.write(1, "a").await;
    world.write(2, "a").await;
    let relay = world.relay(config().publish_timeout(LEASE / 2));
    pass(30 * SECOND).await;
    world.assert_left(0, 1).await;
    assert_eq!(world.began(), [(0, 1), (6_000, 1), (11_000, 2)]);
    assert_eq!((relay.stats().failed, relay.stats().relayed), (2, 1));
}
