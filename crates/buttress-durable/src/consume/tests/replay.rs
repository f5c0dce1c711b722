//! The replay of dead letters by several consumers of a group.

use super::faulty::Faulty;
use super::*;
use tokio::task::JoinHandle;

/// How long a claim lasts without a renewal.
const LEASE: Duration = Duration::from_secs(30);

impl World {
    /// Adds a consumer whose handler takes `time` for a replayed letter, and fails otherwise.
    fn replayer(&self, time: Duration) -> (ConsumerHandle, JoinHandle<()>) {
        self.replayer_with(self.letters.clone(), time)
    }

    fn replayer_with<D: DeadLetters>(
        &self,
        letters: D,
        time: Duration,
    ) -> (ConsumerHandle, JoinHandle<()>) {
        let seen = self.seen.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let seen = seen.clone();
            async move {
                if delivery.replays() == 0 {
                    return Err(Rejected::new("no order").into());
                }
                let of = String::from_utf8_lossy(delivery.payload()).into_owned();
                seen.lock().unwrap().push((Duration::ZERO, of, delivery.replays()));
                pass(time).await;
                Ok::<(), BoxError>(())
            }
        });
        let config = config().handler_timeout(Duration::from_secs(3600)).drain(100 * MS);
        let consumer = Consumer::new(self.subscribe(), handler, config).unwrap();
        let handle = consumer.handle();
        (handle, spawn(consumer.dead_letters(letters).run()))
    }

    /// Adds a [`replayer`](Self::replayer), which replays a letter for `time`.
    async fn replaying(&self, time: Duration) -> (ConsumerHandle, JoinHandle<()>) {
        let (consumer, task) = self.replayer(time);
        self.letter().await;
        assert_eq!(consumer.replay(Select::All).await.unwrap(), 1);
        (consumer, task)
    }

    async fn letter(&self) {
        self.publish("a", "1").await;
        pass(MS).await;
        assert_eq!(self.dead().await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_claim_is_renewed_while_the_handler_runs_and_no_other_consumer_replays() {
    let world = World::new();
    let (one, _) = world.replaying(10 * LEASE).await;
    pass(MS).await;
    let (other, _) = world.replayer(MS);
    for _ in 0..9 {
        assert_eq!(other.replay(Select::All).await.unwrap(), 1, "it is found, and not claimed");
        pass(LEASE).await;
    }
    assert_eq!((world.payloads().len(), other.stats().replayed), (1, 0));
    pass(2 * LEASE).await;
    assert_eq!((one.stats().handled, one.stats().late, world.dead().await.len()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_the_letter_of_a_consumer_that_crashed_is_replayed_after_the_lease() {
    let world = World::new();
    let (_one, task) = world.replaying(10 * LEASE).await;
    pass(LEASE).await;
    task.abort();
    drop(task.await);
    let (other, _) = world.replayer(MS);
    // The last renewal was at the end of the second third of the lease.
    for expected in [0, 1] {
        other.replay(Select::All).await.unwrap();
        pass(LEASE * 2 / 3 + 2 * MS).await;
        assert_eq!(other.stats().replayed, expected);
    }
    let replays: Vec<_> = world.seen().into_iter().map(|(_, _, replays)| replays).collect();
    assert_eq!((replays, world.dead().await.len()), (vec![1, 2], 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_shutdown_releases_the_letters_that_it_does_not_handle() {
    let world = World::new();
    let (one, _) = world.replaying(10 * LEASE).await;
    pass(MS).await;
    one.shut_down().await;
    let (other, _) = world.replayer(MS);
    other.replay(Select::All).await.unwrap();
    pass(10 * MS).await;
    assert_eq!((other.stats().handled, world.dead().await.len()), (1, 0), "without a wait");
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_late_result_of_a_replay_changes_nothing_and_is_counted() {
    let world = World::new();
    // A consumer that does not reach the store.
    let letters =
        Faulty { store: world.letters.clone(), failing_writes: Arc::default(), renews: false };
    let (one, _) = world.replayer_with(letters, 2 * LEASE);
    world.letter().await;
    one.replay(Select::All).await.unwrap();
    pass(LEASE + MS).await;
    let (all, taken) = (Select::All, ReplayId::new(7));
    let page = LetterPage::first("billing", &all, 9);
    let claimed =
        world.letters.claim_letters(LetterClaim::new(page, taken, 4 * LEASE)).await.unwrap();
    assert_eq!(claimed.len(), 1, "another consumer claims the letter after the lease");
    pass(2 * LEASE).await;
    let stats = one.stats();
    assert_eq!((stats.handled, stats.late, world.dead().await.len()), (1, 1, 1));
    world.letters.resolve_letter(Replay::new(taken, claimed[0].id)).await.unwrap();
    assert_eq!(world.dead().await.len(), 0, "the claim that followed is valid");
}

/// A consumer that does not sleep would keep the paused clock from moving: this test would not end.
#[tokio::test(start_paused = true)]
async fn a_consumer_without_room_sleeps_although_letters_may_be_due() {
    let world = World::new();
    let source = Holding(world.subscribe());
    let consumer = world.over(source, config(), async |_| Ok(()));
    consumer.pause();
    pass(3_600_000 * MS).await;
    assert_eq!(consumer.stats().replayed, 0);
}

#[tokio::test(start_paused = true)]
async fn events_2_16_a_replay_during_the_shutdown_is_refused() {
    let world = World::new();
    let consumer = world.consumer(config(), async |_| done_after(1000 * MS).await);
    world.publish("a", "1").await;
    pass(MS).await;
    let late = async {
        pass(MS).await;
        consumer.replay(Select::All).await.unwrap_err()
    };
    let ((), error) = tokio::join!(consumer.shut_down(), late);
    assert!(error.to_string().contains("shuts down"), "{error}");
}

/// A bus that cannot hold a delay.
struct Holding(crate::bus::Subscription);

impl Source for Holding {
    type Token = u64;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn group(&self) -> &str {
        self.0.group()
    }

    fn limits(&self) -> Limits {
        Limits { hold: Some(1000 * MS), ..Limits::default() }
    }

    fn want(&self, room: usize) {
        self.0.want(room);
    }

    async fn receive(&self) -> Result<Batch<u64>, StoreError> {
        self.0.receive().await
    }

    async fn settle(&self, done: &[(u64, Settle)]) -> Result<Vec<Answer>, StoreError> {
        self.0.settle(done).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }
}
