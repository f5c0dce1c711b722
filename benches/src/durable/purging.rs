//! Whether purges keep up with full speed: the messages per second of a relay and the age of the
//! oldest delivered message in the store at the end, and the same of sagas that ended.

use std::time::{Duration, Instant};

use buttress::{Clock, Json};
use buttress_durable::outbox::{Config, MemoryStore, MemoryTransaction, Outbox, Relay};
use buttress_durable::saga::{self, Executor};

use super::base::{Base, Server, fill, sqlite};
use super::flow::{rate, two_threads};
use super::folder::Folder;
use super::order::{Publisher, messages};
use super::sagas;
use super::{
    BATCH, IN_FLIGHT, PURGE_MEMORY, PURGE_POSTGRES, PURGE_SQLITE, SAGAS_PURGED_POSTGRES,
    SAGAS_PURGED_SQLITE,
};
use crate::patterns::BUTTRESS;
use crate::probes::finding;

/// The numbers of messages of the two runs. The age of the oldest row must not grow with them.
const RUNS: [u64; 2] = [100_000, 300_000];
/// The numbers of sagas of the two runs.
const SAGAS: [u64; 2] = [30_000, 90_000];
/// How long delivered messages are kept.
const KEPT: Duration = Duration::from_millis(200);
/// How long ended sagas are kept, and the shorter patience of their executor with the store: a disk that
/// stalls for a second must not fail them.
const SAGAS_KEPT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The longest rest between two purges of a relay that delivers, and a second in which the purge
/// removes what was delivered during the rest.
const REST: Duration = Duration::from_secs(3);

impl Base for MemoryStore {
    type Tx = MemoryTransaction;

    async fn begin_tx(&self) -> MemoryTransaction {
        self.begin()
    }

    async fn pay(_tx: &mut MemoryTransaction, _account: i64) {}

    async fn commit(tx: MemoryTransaction) {
        tx.commit();
    }
}

/// What a run found.
#[derive(Clone, Copy, Default)]
struct Found {
    /// Messages per second.
    rate: f64,
    /// The remaining rows of delivered messages.
    left: usize,
    /// How long before the end of the run the oldest of them was delivered.
    oldest: Duration,
}

/// Lets a relay publish and purge `count` messages, which are written meanwhile.
async fn run_of<B: Base>(store: B, count: u64) -> Found {
    let outbox = Outbox::new(store);
    let publisher = Publisher::new();
    let config = Config::new().batch(BATCH).keep_delivered(KEPT, 1_000);
    let relay = Relay::new(&outbox, publisher.clone(), config).expect("valid").spawn();
    let began = Instant::now();
    let mut messages = messages(count);
    // How many messages were delivered, millisecond by millisecond.
    let mut delivered = vec![(began, 0)];
    tokio::join!(fill(&outbox, &mut messages), async {
        while delivered.last().is_some_and(|(_, relayed)| *relayed < count) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            delivered.push((Instant::now(), relay.stats().relayed));
        }
    });
    let ended = Instant::now();
    relay.shut_down().await;
    assert_eq!((publisher.in_order(), publisher.out_of_order()), (count, 0), "all, in order");
    let mut left = 0;
    loop {
        match outbox.store().purge_delivered(Duration::ZERO, 10_000).await.expect("purged") {
            0 => break,
            some => left += some,
        }
    }
    // Purges remove the oldest first.
    let oldest = delivered.iter().find(|(_, relayed)| *relayed > count - left as u64);
    Found {
        rate: count as f64 / (ended - began).as_secs_f64(),
        left,
        oldest: oldest.map_or(Duration::ZERO, |(at, _)| ended - *at),
    }
}

fn report(what: &str, kept: Duration, counts: [u64; 2], [short, long]: [Found; 2]) {
    let text = format!(
        "{:.0}/s; {} rows are left of {}, the oldest is {:.1?} old; and {} of {}, {:.1?}",
        long.rate, long.left, counts[1], long.oldest, short.left, counts[0], short.oldest
    );
    finding(what, BUTTRESS, long.rate, &text);
    assert!(long.oldest <= kept + REST, "{what}: the purge does not keep up: {text}");
}

/// Runs `count` sagas whose executor purges them after [`SAGAS_KEPT`].
async fn sagas_of<S>(store: S, count: u64) -> Found
where
    S: saga::Store<<Json as buttress::Format>::Encoded> + Clone,
{
    let (definition, last) = sagas::definition(Json);
    let config = saga::Config::new().patience(PATIENCE).retention(SAGAS_KEPT);
    let executor = Executor::new(definition, store.clone(), config).expect("valid");
    let rate = rate(count, IN_FLIGHT, sagas::run(BUTTRESS, executor.clone(), last)).await;
    executor.shut_down().await.expect("nothing is under way");
    let mut left = 0;
    loop {
        match store.purge_sagas(None, Duration::ZERO, 10_000).await.expect("purged") {
            0 => break,
            some => left += some,
        }
    }
    // Sagas end at a constant rate.
    Found { rate, left, oldest: Duration::from_secs_f64(left as f64 / rate) }
}

async fn on_sqlite() {
    let mut runs = [Found::default(); 2];
    for (run, count) in runs.iter_mut().zip(RUNS) {
        let folder = Folder::new();
        let store = sqlite(&folder).await;
        *run = run_of(store.clone(), count).await;
        store.close().await;
    }
    report(PURGE_SQLITE, KEPT, RUNS, runs);
    for (run, count) in runs.iter_mut().zip(SAGAS) {
        let folder = Folder::new();
        let store = sqlite(&folder).await;
        *run = sagas_of(store.clone(), count).await;
        store.close().await;
    }
    report(SAGAS_PURGED_SQLITE, SAGAS_KEPT, SAGAS, runs);
}

async fn on_postgres() {
    let Some(server) = Server::find().await else {
        eprintln!("skipped: purges on PostgreSQL, no server is available");
        return;
    };
    let mut runs = [Found::default(); 2];
    for (run, count) in runs.iter_mut().zip(RUNS) {
        let store = server.store().await;
        *run = run_of(store.clone(), count).await;
        store.close().await;
    }
    report(PURGE_POSTGRES, KEPT, RUNS, runs);
    for (run, count) in runs.iter_mut().zip(SAGAS) {
        let store = server.store().await;
        *run = sagas_of(store.clone(), count).await;
        store.close().await;
    }
    server.drop_schema().await;
    report(SAGAS_PURGED_POSTGRES, SAGAS_KEPT, SAGAS, runs);
}

async fn all() {
    let mut runs = [Found::default(); 2];
    for (run, count) in runs.iter_mut().zip(RUNS) {
        *run = run_of(MemoryStore::new(Clock::default()), count).await;
    }
    report(PURGE_MEMORY, KEPT, RUNS, runs);
    on_sqlite().await;
    on_postgres().await;
}

pub fn run() {
    two_threads().block_on(all());
}
