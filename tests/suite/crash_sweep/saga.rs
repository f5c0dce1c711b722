use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use buttress::retry::{Backoff, Jitter};
use buttress::{Answer, Clock, InMemoryValue, Name, StoreError};
use buttress_durable::outbox;
use buttress_durable::saga::{
    Barrier, Builder, Call, Config, CreateIn, Definition, Direction, Executor, Kind, MemoryStore,
    NewSaga, OnCrash, Passage, Record, SagaId, Status, StepStatus, Store,
};
use buttress_sim::crash::{CrashPoints, at_every_boundary, at_every_pair};
use buttress_sim::hooked::{Hook, Hooked, Operation, Run};
use buttress_sim::inject::{Effects, Injected, StepFaults};
use tower::service_fn;

use super::store::{Crashing, Mortal};
use super::ways::{Failed, Way};

const LEASE: Duration = Duration::from_secs(10);
const ID: SagaId = SagaId::new(77);

use Way::{Fine, LoseAnswer, Refuse, Stumble};

/// The state that outlives the process: the log, and the participants with their effects.
struct World {
    log: MemoryStore,
    /// The participants' barrier.
    barrier: outbox::MemoryStore,
    effects: Effects,
    faults: StepFaults,
}

impl World {
    fn new(steps: Steps) -> Arc<Self> {
        let (effects, faults) = (Effects::new(), StepFaults::new());
        for (step, _, way) in steps {
            match way {
                Fine => continue,
                Refuse => faults.action(*step).always().fail("refused"),
                LoseAnswer => faults.action(*step).always().doubt_after(),
                Stumble => {
                    faults.action(*step).first(2).doubt_before();
                    // Another one, if a crash makes the step run again after its end.
                    faults.action(*step).nth(4).doubt_before()
                }
            };
        }
        let (log, barrier) = (MemoryStore::new(Clock::default()), Clock::default());
        Arc::new(Self { log, barrier: outbox::MemoryStore::new(barrier), effects, faults })
    }

    /// Handles an action or an undo. Only the barrier prevents a second effect.
    async fn serve(&self, call: &Call<u32>) -> Result<u32, Failed> {
        let (key, mut tx) = (call.key(), self.barrier.begin());
        let step = key.step().as_str();
        let passage = match key.direction() {
            Direction::Action => self.barrier.action(&mut tx, key.saga(), step).await.unwrap(),
            Direction::Undo => self.barrier.undo(&mut tx, key.saga(), step).await.unwrap(),
        };
        match passage {
            Passage::Proceed => self.effects.record(key),
            Passage::Overtaken if key.direction() == Direction::Action => {
                return Err(Failed(Refuse));
            }
            Passage::Repeated | Passage::Overtaken => {}
        }
        tx.commit();
        Ok(1)
    }
}

type Steps = &'static [(&'static str, Kind, Way)];

fn definition(world: &Arc<World>, steps: Steps, on_crash: OnCrash, beside: bool) -> Builder<u32> {
    let mut saga = Definition::builder("sweep", 1);
    let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None);
    let add = |saga: &mut Builder<u32>| {
        for (step, kind, _) in steps {
            let serving = world.clone();
            let service = service_fn(move |call: Call<u32>| {
                let world = serving.clone();
                async move { world.serve(&call).await }
            });
            let failed = |injected: Injected| {
                Failed(if injected.is_definite() { Refuse } else { LoseAnswer })
            };
            let service = world.faults.around(service, failed);
            let adding = saga.step(*step).kind(*kind).on_crash(on_crash);
            let adding = match kind {
                Kind::Compensatable => adding,
                _ => adding.run_again(9, backoff),
            };
            let added = adding
                .action((), service.clone(), |input: &u32, ()| *input)
                .definite(|failed: &Failed| failed.0 == Refuse);
            match kind {
                Kind::Compensatable => added.undo((), service, |input: &u32, (), _| *input).add(),
                _ => added.add(),
            };
        }
    };
    if beside {
        saga.parallel(add);
    } else {
        add(&mut saga);
    }
    saga
}

fn config(points: &CrashPoints) -> Config {
    Config::new().lease(LEASE).spawner(points.spawner(buttress::Spawner::default()))
}

/// Crash points that also surround the creation of a saga in a transaction.
#[derive(Clone)]
struct Creating(Crashing, MemoryStore);

impl<O: Operation> Hook<O> for Creating {
    async fn around<T: Any + Send>(&self, operation: O, run: Run<T>) -> Result<T, StoreError> {
        self.0.around(operation, run).await
    }
}

impl CreateIn<outbox::MemoryTransaction, InMemoryValue> for Creating {
    async fn create_in(
        &self,
        tx: &mut outbox::MemoryTransaction,
        saga: NewSaga<InMemoryValue>,
    ) -> Answer<Option<Record<InMemoryValue>>> {
        self.0.0.around("create_in", self.1.create_in(tx, saga)).await
    }
}

/// One life of the process: starts the saga in a transaction, or resumes it.
async fn live_in_transaction(world: &Arc<World>, points: &CrashPoints, saga: Builder<u32>) {
    let hook = Creating(Crashing(points.clone()), world.log.clone());
    let store = Hooked::new(world.log.clone(), hook);
    let status = async || world.log.load(ID).await.unwrap().map(|record| record.status);
    let life = async {
        let sagas = Executor::new(saga.build().unwrap(), store, config(points)).unwrap();
        if status().await.is_none() {
            let mut tx = world.barrier.begin();
            let started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
            points.around("commit", async { tx.commit() }).await;
            drop(started.committed());
        } else {
            Clock::default().sleep(LEASE).await;
            let recovery = sagas.recover().await.unwrap();
            assert!(recovery.left.is_empty(), "{recovery:?}");
        }
        while !status().await.is_some_and(Status::is_ended) {
            Clock::default().sleep(Duration::from_millis(10)).await;
        }
    };
    points.guard(life).await;
}

/// One life of the process: starts the saga, or resumes it.
async fn live(world: &Arc<World>, points: &CrashPoints, saga: Builder<u32>) {
    let config = config(points);
    let store = Mortal::new(world.log.clone(), Crashing(points.clone()));
    let life = async {
        let sagas = Executor::new(saga.build().unwrap(), store, config).unwrap();
        if world.log.load(ID).await.unwrap().is_none() {
            drop(sagas.start_as(ID, 7).await.unwrap());
        } else {
            Clock::default().sleep(LEASE).await;
            let recovery = sagas.recover().await.unwrap();
            assert!(recovery.left.is_empty(), "{recovery:?}");
        }
        while sagas.stats().active > 0 {
            Clock::default().sleep(Duration::from_millis(10)).await;
        }
    };
    points.guard(life).await;
}

async fn check(world: &World, steps: Steps, status: Status) -> Result<(), String> {
    let record = world.log.load(ID).await.unwrap().ok_or("it was lost")?;
    if record.status != status {
        return Err(format!("it is {:?}: {:#?}", record.status, record.entries));
    }
    let wanted = match status {
        Status::Completed => StepStatus::Done,
        _ => StepStatus::Undone,
    };
    let steps = steps.iter().map(|(step, ..)| (Name::from(*step), wanted));
    let checked = world.effects.check(ID, steps);
    checked.map_err(|wrong| format!("{wrong}: {:#?}", record.entries))
}

const C: Kind = Kind::Compensatable;

/// The cases of a saga, with their ends, wherever the process crashes.
const CASES: [(&str, Steps, Status, bool); 7] = [
    ("all is fine", &[("a", C, Fine), ("b", C, Fine), ("c", C, Fine)], Status::Completed, false),
    ("a refusal", &[("a", C, Fine), ("b", C, Fine), ("c", C, Refuse)], Status::Compensated, false),
    ("a lost answer", &[("a", C, Fine), ("b", C, LoseAnswer)], Status::Compensated, false),
    (
        "past the pivot",
        &[("a", C, Fine), ("p", Kind::Pivot, Fine), ("r", Kind::Retryable, Stumble)],
        Status::Completed,
        false,
    ),
    (
        "a pivot that stumbles",
        &[("a", C, Fine), ("p", Kind::Pivot, Stumble)],
        Status::Completed,
        false,
    ),
    ("a refused pivot", &[("a", C, Fine), ("p", Kind::Pivot, Refuse)], Status::Compensated, false),
    (
        "beside each other",
        &[("a", C, Fine), ("b", C, LoseAnswer), ("c", C, Refuse)],
        Status::Compensated,
        true,
    ),
];

/// A life of a process that runs steps again that a crash left without an outcome.
fn again(steps: Steps, beside: bool) -> impl AsyncFn(&Arc<World>, &CrashPoints) {
    async move |world: &Arc<World>, points: &CrashPoints| {
        live(world, points, definition(world, steps, OnCrash::RunAgain, beside)).await;
    }
}

/// Runs every case with one crash, or with two.
macro_rules! sweep {
    ($at_every:ident, |$name:ident, $report:ident| $judge:expr) => {
        for ($name, steps, status, beside) in CASES {
            let run = again(steps, beside);
            let check = async |world: &Arc<World>| check(world, steps, status).await;
            let swept = $at_every(async || World::new(steps), run, check).await;
            let $report = swept.unwrap_or_else(|failure| panic!("{}: {failure}", $name));
            $judge;
        }
    };
}

#[tokio::test(start_paused = true)]
async fn a_saga_ends_whole_wherever_its_process_dies() {
    sweep!(at_every_boundary, |name, report| {
        // Renewal, creation, and an append per end, each with two sides.
        assert!(report.crashes >= 8 && report.missed == 0, "{name}: {report:?}");
    });
}

#[tokio::test(start_paused = true)]
async fn and_when_the_next_one_dies_too() {
    sweep!(at_every_pair, |name, report| assert!(report.crashes >= 64, "{name}: {report:?}"));
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_undoes_what_a_crash_left_ends_whole_too() {
    let steps: Steps = &[("a", C, Fine), ("b", C, Fine), ("c", C, Fine)];
    at_every_boundary(
        async || World::new(steps),
        async |world, points| {
            live(world, points, definition(world, steps, OnCrash::Undo, false)).await;
        },
        async |world| {
            // The place of the crash decides whether the saga completes. It is whole in every case.
            let record = world.log.load(ID).await.unwrap().ok_or("it was lost".to_owned())?;
            check(world, steps, record.status).await
        },
    )
    .await
    .unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_starts_in_a_transaction_ends_whole_wherever_its_process_dies() {
    for (name, steps, status, beside) in CASES {
        let run = async |world: &Arc<World>, points: &CrashPoints| {
            let saga = definition(world, steps, OnCrash::RunAgain, beside);
            live_in_transaction(world, points, saga).await;
        };
        let check = async |world: &Arc<World>| check(world, steps, status).await;
        let swept = at_every_boundary(async || World::new(steps), run, check).await;
        let report = swept.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        // Besides those of another saga: creation, commit and take-over, each with two sides.
        assert!(report.crashes >= 12 && report.missed == 0, "{name}: {report:?}");
    }
}
