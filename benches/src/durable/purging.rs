//! Whether the purge of delivered messages keeps up with deliveries at full speed: the messages per
//! second of a relay, and the rows of delivered messages in the store.

use std::time::{Duration, Instant};

use buttress::Clock;
use buttress_durable::outbox::{Config, MemoryStore, MemoryTransaction, Outbox, Relay};

use super::base::{Base, Server, fill, sqlite};
use super::flow::two_threads;
use super::folder::Folder;
use super::order::{Publisher, messages};
use super::{BATCH, PURGE_MEMORY, PURGE_POSTGRES, PURGE_SQLITE};
use crate::patterns::BUTTRESS;
use crate::probes::finding;

/// The numbers of messages of the two runs. The number of remaining rows must not grow with them.
const RUNS: [u64; 2] = [60_000, 180_000];
/// How long delivered messages are kept.
const KEPT: Duration = Duration::from_millis(200);
/// The longest rest between two polls of a purge that keeps up.
const REST: Duration = Duration::from_secs(2);

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

/// Lets a relay publish and purge `count` messages, which are written meanwhile. Returns the
/// messages per second, and the remaining rows at the end of the last delivery.
async fn run_of<B: Base>(store: B, count: u64) -> (f64, usize) {
    let outbox = Outbox::new(store);
    let publisher = Publisher::new();
    let config = Config::new().batch(BATCH).keep_delivered(KEPT, 1_000);
    let relay = Relay::new(&outbox, publisher.clone(), config).expect("valid").spawn();
    let began = Instant::now();
    let mut messages = messages(count);
    tokio::join!(fill(&outbox, &mut messages), async {
        while relay.stats().relayed < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let rate = count as f64 / began.elapsed().as_secs_f64();
    relay.shut_down().await;
    assert_eq!((publisher.in_order(), publisher.out_of_order()), (count, 0), "all, in order");
    let mut left = 0;
    loop {
        match outbox.store().purge_delivered(Duration::ZERO, 10_000).await.expect("purged") {
            0 => return (rate, left),
            some => left += some,
        }
    }
}

fn report(what: &str, [short, long]: [(f64, usize); 2]) {
    let (rate, left) = long;
    let most = rate * (KEPT + REST).as_secs_f64();
    let text =
        format!("{rate:.0}/s; {left} rows are left of {}, and {} of {}", RUNS[1], short.1, RUNS[0]);
    finding(what, BUTTRESS, rate, &text);
    assert!((left as f64) <= most, "{what}: the purge does not keep up: {text}");
}

async fn all() {
    let mut runs = [(0.0, 0); 2];
    for (run, count) in runs.iter_mut().zip(RUNS) {
        *run = run_of(MemoryStore::new(Clock::default()), count).await;
    }
    report(PURGE_MEMORY, runs);
    for (run, count) in runs.iter_mut().zip(RUNS) {
        let folder = Folder::new();
        let store = sqlite(&folder).await;
        *run = run_of(store.clone(), count).await;
        store.close().await;
    }
    report(PURGE_SQLITE, runs);
    let Some(server) = Server::find().await else {
        eprintln!("skipped: purges on PostgreSQL, no server is available");
        return;
    };
    for (run, count) in runs.iter_mut().zip(RUNS) {
        let store = server.store().await;
        *run = run_of(store.clone(), count).await;
        store.close().await;
    }
    server.drop_schema().await;
    report(PURGE_POSTGRES, runs);
}

pub fn run() {
    two_threads().block_on(all());
}
