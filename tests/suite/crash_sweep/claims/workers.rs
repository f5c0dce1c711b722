//! One run: workers that share a store of claims, and the final check.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::idempotency::{
    Claim, Config, IdempotencyLayer, Key, MemoryStore, MemoryTransaction, WithClaim,
};
use buttress::{Clock, Rng, StoreError, VirtualClock};
use buttress_sim::crash::{Ledger, Lived, Process, Schedule, Strike, Trouble};
use tower::util::BoxCloneService;
use tower::{BoxError, Layer, ServiceExt, service_fn};

use super::super::{executor, operations};
use super::store::{Stored, Troubled, Troubles};

pub(super) const LEASE: Duration = Duration::from_secs(10);
/// The time by which every call ends.
const HORIZON: Duration = Duration::from_secs(600);
/// The time by which a worker acts that should no longer act.
const AFTERWARDS: Duration = Duration::from_secs(70);
/// The time limit of a handler for its commit.
const DRIVER: Duration = Duration::from_secs(3);
/// Within this time, and the patience for each lost answer, a fresh call must end: the lease that a dead worker left,
/// the longest delay of a request in progress, and the work.
const FRESH: Duration = Duration::from_secs(120);

/// How much goes wrong in one run at most.
pub(super) const MOST_STRIKES: u64 = 4;

#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub processes: u32,
    pub keys: u32,
    /// The time of each of the three parts of a handler.
    pub takes: Duration,
    /// Every n-th run of a handler fails at its end.
    pub fails: u32,
    /// Whether handlers store their answer in a separate transaction.
    pub transactional: bool,
    /// Whether handlers run on separate tasks.
    pub detached: bool,
    /// The time limit of the layer for the store.
    pub patience: Duration,
    /// How long results are kept.
    pub lifetime: Duration,
    /// How long a caller that has its answer waits before it calls with the same key again, and how often.
    pub again: (Duration, u32),
    /// `None` keeps the order in which tasks become ready.
    pub ties: Option<u64>,
}

/// The state that the handlers of all workers share. It outlives the workers.
#[derive(Clone)]
struct World {
    store: MemoryStore<u32>,
    ledger: Ledger,
    stored: Stored,
    runs: Arc<AtomicU32>,
    /// The number of unfinished calls of each worker.
    left: Arc<Mutex<BTreeMap<u32, u32>>>,
    /// The clock of the store.
    clock: Clock,
}

type Front = BoxCloneService<Key, u32, BoxError>;
type Worker = (Process, Front);

impl World {
    /// The work of a key: three parts. No part may leave a worker that lost the key.
    async fn handle(
        self,
        scenario: Scenario,
        process: Process,
        key: Key,
        claim: Option<Claim<Troubled, u32>>,
    ) -> Result<u32, BoxError> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        for part in 1..=3 {
            // The transaction fences the work of the handler in it.
            if claim.is_none() {
                self.ledger.called(&key, process.number(), format!("part {part} of run {run}"));
            }
            process.clock().sleep(scenario.takes).await;
        }
        if run % scenario.fails == 0 {
            return Err("busy".into());
        }
        if let Some(claim) = claim {
            let mut tx = self.store.begin();
            claim.complete_in(&mut tx, &run).await?;
            self.commit(&process, &key, (run, scenario.lifetime), tx).await?;
        }
        Ok(run)
    }

    async fn commit(
        &self,
        process: &Process,
        key: &Key,
        (run, lifetime): (u32, Duration),
        tx: MemoryTransaction<u32>,
    ) -> Result<(), StoreError> {
        let (world, key) = (self.clone(), key.clone());
        let committed = async move {
            tx.commit()?;
            let now = world.clock.now();
            world.stored.keep(&world.ledger, &key, run, (now, lifetime));
            Ok(())
        };
        // The time limit of a driver for its database.
        let answer = tokio::select! {
            biased;
            answer = process.operation("commit", committed) => answer,
            () = process.clock().sleep(DRIVER) => Err(StoreError::transient("no answer to the commit")),
        };
        self.stored.heard(run, &answer);
        answer
    }

    /// Whether a call of a worker that has not crashed is still running.
    fn is_called(&self, workers: &[Worker]) -> bool {
        let left = self.left.lock().unwrap();
        workers.iter().any(|(process, _)| {
            !process.has_crashed() && left.get(&process.number()).is_some_and(|left| *left > 0)
        })
    }
}

fn worker(scenario: &Scenario, world: &World, process: &Process) -> Front {
    let config = Config::new()
        .lease(LEASE)
        .longest_wait(LEASE * 2)
        .patience(scenario.patience)
        .poll_interval(Duration::from_secs(1))
        .sweep(Duration::from_secs(7), 10)
        .result_lifetime(scenario.lifetime)
        .clock(process.clock())
        .rng(Rng::seeded(u64::from(process.number())))
        .spawner(process.spawner());
    let troubles = Troubles {
        store: world.store.clone(),
        process: process.clone(),
        ledger: world.ledger.clone(),
        stored: world.stored.clone(),
        clock: world.clock.clone(),
    };
    let store = troubles.into_store();
    let by_key = |key: &Key| Some(key.clone());
    let (world, scenario, process) = (world.clone(), scenario.clone(), process.clone());
    let (transactional, detached) = (scenario.transactional, scenario.detached);
    let handle =
        move |key, claim| world.clone().handle(scenario.clone(), process.clone(), key, claim);
    if transactional {
        let handler =
            move |asked: WithClaim<Key, Troubled, u32>| handle(asked.request, Some(asked.claim));
        let layer = IdempotencyLayer::transactional(config, store, by_key).unwrap();
        BoxCloneService::new(layer.layer(service_fn(handler)))
    } else {
        let layer = IdempotencyLayer::new(config, store, by_key).unwrap();
        let inner = service_fn(move |key| handle(key, None));
        if detached {
            BoxCloneService::new(layer.detached().layer(inner))
        } else {
            BoxCloneService::new(layer.layer(inner))
        }
    }
}

/// How long all that is late or stands still takes together. A layer waits for a lost answer for its patience.
fn delays(scenario: &Scenario, schedule: &Schedule) -> Duration {
    let of = |strike: &Strike| match strike.trouble {
        Trouble::Freeze(time) | Trouble::Late(time) => time,
        Trouble::Lost(time) => time.min(scenario.patience),
        _ => Duration::ZERO,
    };
    schedule.0.iter().map(of).sum()
}

fn key(number: u32) -> Key {
    Key::new(&format!("key-{number}")).unwrap()
}

/// Calls until there is an answer, and as often again as the scenario says.
async fn call_until_answered(
    world: World,
    process: Process,
    front: Front,
    key: Key,
    (pause, times): (Duration, u32),
) {
    for time in 0..=times {
        if time > 0 {
            process.clock().sleep(pause).await;
        }
        loop {
            let began = world.clock.now();
            match process.call(front.clone().oneshot(key.clone())).await {
                Some(Ok(answer)) => {
                    break world.stored.answered(&world.ledger, &key, answer, began);
                }
                // Refused, failed or dropped.
                _ => process.clock().sleep(Duration::from_secs(1)).await,
            }
        }
    }
    *world.left.lock().unwrap().entry(process.number()).or_default() -= 1;
}

/// One run: every worker calls every key, twice at the same instant. At the end a new worker, and
/// every worker that has not crashed, calls every key again.
pub(super) fn run(scenario: &Scenario, schedule: &Schedule) -> Lived {
    let time = VirtualClock::new();
    let mut executor = executor(&time, scenario.ties);
    let outside = executor.spawner();
    let world = World {
        store: MemoryStore::new(time.clock()),
        ledger: Ledger::new(),
        stored: Stored::new(delays(scenario, schedule)),
        runs: Arc::default(),
        left: Arc::default(),
        clock: time.clock(),
    };
    let call_all = |(process, front): &Worker, again| {
        for key in (1..=scenario.keys).map(key) {
            *world.left.lock().unwrap().entry(process.number()).or_default() += 1;
            let (world, front) = (world.clone(), front.clone());
            let calling = call_until_answered(world, process.clone(), front, key, again);
            process.spawner().spawn(calling);
        }
    };
    let new_worker = |number, schedule: &Schedule| {
        let process = Process::new(number, &time, outside.clone(), schedule);
        let front = worker(scenario, &world, &process);
        (process, front)
    };
    let mut workers: Vec<Worker> =
        (1..=scenario.processes).map(|number| new_worker(number, schedule)).collect();
    for worker in &workers {
        call_all(worker, scenario.again);
        call_all(worker, scenario.again);
    }
    let clock = time.clock();
    let run = async {
        while time.elapsed() < HORIZON && world.is_called(&workers) {
            clock.sleep(Duration::from_secs(1)).await;
        }
        let operations = operations(workers.iter().map(|worker| &worker.0));
        clock.sleep(AFTERWARDS).await;
        if world.is_called(&workers) {
            world.ledger.stands_still("a call", format!("{:?}", world.left));
        }
        workers.push(new_worker(0, &Schedule::calm()));
        workers.iter().for_each(|worker| call_all(worker, (Duration::ZERO, 0)));
        clock.sleep(FRESH + scenario.patience * MOST_STRIKES as u32).await;
        if world.is_called(&workers) {
            world.ledger.still_held("a key", format!("{:?}", world.left));
        }
        Lived { operations, verdict: world.ledger.check() }
    };
    executor.block_on(run).unwrap()
}
