//! Sagas that start in the caller's own transaction.

use std::any::Any;
use std::time::Duration;

use buttress::{Clock, InMemoryValue, Spawner, StoreError, StoreErrorKind, Task};
use buttress_durable::bus::{Bus, Pattern, Subscribe};
use buttress_durable::consume::{self, Consumer, Delivery, MemoryDeadLetters};
use buttress_durable::event::Event;
use buttress_durable::outbox::{self, Inbox, Message, MessageId, Receipt};
use buttress_durable::saga::{
    CreateIn, Executor, MemoryStore, NewSaga, Record, SagaError, SagaId, StartedIn, Status, Store,
};
use buttress_sim::hooked::saga::Operation;
use buttress_sim::hooked::{Hook, Hooked, Operation as _, Run};
use tower::{BoxError, service_fn};

use super::world::*;
use crate::support::ms;

const ID: SagaId = SagaId::new(7);
/// How long a saga waits for a worker at most, after its writer has crashed.
const PICK_UP: Duration = Duration::from_millis(500);

/// The state that outlives the process.
#[derive(Clone)]
struct Site {
    world: World,
    logs: MemoryStore,
    database: outbox::MemoryStore,
}

impl Site {
    fn new() -> Self {
        let clock = Clock::default();
        let (logs, database) = (MemoryStore::new(clock.clone()), outbox::MemoryStore::new(clock));
        Self { world: World::new(), logs, database }
    }

    fn executor(&self) -> InMemory {
        self.executor_on(Spawner::default())
    }

    fn executor_on(&self, spawner: Spawner) -> InMemory {
        let saga = sequence(&self.world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
        let config = config().spawner(spawner);
        Executor::new(saga.build().unwrap(), self.logs.clone(), config).unwrap()
    }

    /// Starts the saga in a transaction that commits.
    async fn start(&self, sagas: &InMemory) -> StartedIn<u32, buttress::InMemory, MemoryStore> {
        let mut tx = self.database.begin();
        let started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
        tx.commit();
        started
    }

    async fn status(&self) -> Option<Status> {
        self.logs.load(ID).await.unwrap().map(|record| record.status)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_rolled_back_does_not_run() {
    let site = Site::new();
    let sagas = site.executor();
    sagas.keep_recovering(Duration::from_secs(60));
    let mut tx = site.database.begin();
    let started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
    Clock::default().sleep(3 * PICK_UP).await;
    drop(tx);
    Clock::default().sleep(3 * PICK_UP).await;
    assert_eq!((site.status().await, site.world.seen().len()), (None, 0));
    // A caller that is mistaken about the commit.
    let ended = started.committed().await;
    assert!(matches!(ended, Err(SagaError::NotPossible { .. })), "{ended:?}");
    assert_eq!(sagas.stats().started, 0);
}

#[tokio::test(start_paused = true)]
async fn a_committed_saga_runs_here_without_a_poll() {
    let site = Site::new();
    let sagas = site.executor();
    let mut tx = site.database.begin();
    let started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
    assert_eq!((started.id(), site.status().await), (ID, None));
    tx.commit();
    let report = started.committed().await.unwrap();
    assert_ended(&report, Status::Completed, None);
    assert_eq!(site.world.times(), [(0, "a".to_owned()), (0, "b".to_owned())]);
    let stats = sagas.stats();
    assert_eq!((stats.started, stats.resumed, stats.completed), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_writer_crashed_is_taken_within_500_ms() {
    for recovers_every in [Duration::from_secs(3600), ms(200)] {
        let site = Site::new();
        let there = site.executor();
        there.keep_recovering(recovers_every);
        Clock::default().sleep(ms(1)).await;
        // The process of the writer crashes right after the commit: it spawns nothing any more.
        let here = site.executor_on(Spawner::new(|task: Task| drop(task)));
        let started = site.start(&here).await;
        drop((started, here));
        Clock::default().sleep(PICK_UP).await;
        assert_eq!(site.status().await, Some(Status::Completed));
        assert_eq!(site.world.seen(), ["a", "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn many_sagas_without_a_worker_are_taken_together() {
    let site = Site::new();
    let sagas = site.executor();
    let mut tx = site.database.begin();
    for id in 1..=250 {
        drop(sagas.start_in(&mut tx, SagaId::new(id), 7).await.unwrap());
    }
    tx.commit();
    sagas.keep_recovering(Duration::from_secs(3600));
    Clock::default().sleep(PICK_UP).await;
    assert_eq!((sagas.stats().resumed, sagas.stats().completed), (250, 250));
    assert_eq!(site.world.seen().len(), 500, "each step once");
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_another_worker_took_first_is_waited_for() {
    let site = Site::new();
    let (here, there) = (site.executor(), site.executor());
    let started = site.start(&here).await;
    assert_eq!(there.recover().await.unwrap().resumed, [ID]);
    assert_eq!(started.committed().await.unwrap().status(), Status::Completed);
    assert_eq!(site.world.seen(), ["a", "b"]);
    assert_eq!((here.stats().started, there.stats().resumed), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_known_id_is_started_before_or_a_conflict() {
    let site = Site::new();
    let sagas = site.executor();
    let mut tx = site.database.begin();
    let _started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
    for _ in 0..2 {
        let again = sagas.start_in(&mut tx, ID, 7).await.map(drop);
        assert!(matches!(again, Err(SagaError::AlreadyStarted { saga: ID })), "{again:?}");
        let other = sagas.start_in(&mut tx, ID, 8).await.map(drop);
        let Err(SagaError::Store { error, .. }) = other else { panic!("{other:?}") };
        assert_eq!(error.kind(), StoreErrorKind::Conflict);
        let open = std::mem::replace(&mut tx, site.database.begin());
        // Nothing of it happens before its commit, and another transaction cannot use the id.
        if site.status().await.is_none() {
            let taken = sagas.start_in(&mut tx, ID, 7).await.map(drop);
            let Err(SagaError::Store { error, .. }) = taken else { panic!("{taken:?}") };
            assert!(error.is_transient(), "{error}");
            let direct = sagas.start_as(SagaId::new(9), 7).await.unwrap();
            assert_eq!(direct.await.unwrap().status(), Status::Completed);
        }
        open.commit();
    }
    let known = sagas.start_as(ID, 7).await.map(drop);
    assert!(matches!(known, Err(SagaError::AlreadyStarted { .. })), "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_shuts_down_starts_nothing_and_leaves_the_saga_to_others() {
    let site = Site::new();
    let (here, there) = (site.executor(), site.executor());
    let started = site.start(&here).await;
    here.shut_down().await.unwrap();
    let ended = started.committed().await;
    assert!(matches!(ended, Err(SagaError::ShutDown { .. })), "{ended:?}");
    let mut tx = site.database.begin();
    let refused = here.start_in(&mut tx, SagaId::new(8), 7).await.map(drop);
    assert!(matches!(refused, Err(SagaError::ShutDown { .. })), "{refused:?}");
    assert_eq!(there.recover().await.unwrap().resumed, [ID]);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_start_in_the_transaction() {
    let site = Site::new();
    let saga = sequence(&site.world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
    let config = config().deadline(ms(300));
    let sagas = Executor::new(saga.build().unwrap(), site.logs.clone(), config).unwrap();
    let mut tx = site.database.begin();
    let started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
    Clock::default().sleep(ms(300)).await;
    tx.commit();
    assert_ended(&started.committed().await.unwrap(), Status::Compensated, Some("deadline passed"));
    assert!(site.world.seen().is_empty());
}

/// Answers of take-overs come late.
#[derive(Clone)]
struct LateTakeOvers {
    logs: MemoryStore,
    operation: &'static str,
}

impl Hook<Operation<InMemoryValue>> for LateTakeOvers {
    async fn around<T: Any + Send>(
        &self,
        operation: Operation<InMemoryValue>,
        run: Run<T>,
    ) -> Result<T, StoreError> {
        let is_late = operation.name() == self.operation;
        let answer = run.await;
        if is_late {
            Clock::default().sleep(ms(3)).await;
        }
        answer
    }
}

impl CreateIn<outbox::MemoryTransaction, InMemoryValue> for LateTakeOvers {
    async fn create_in(
        &self,
        tx: &mut outbox::MemoryTransaction,
        saga: NewSaga<InMemoryValue>,
    ) -> buttress::Answer<Option<Record<InMemoryValue>>> {
        self.logs.create_in(tx, saga).await
    }
}

/// Regression: the executor's own recovery and `committed` both took the saga. The action ran twice, the caller got an
/// error, and the log said that another worker had taken the saga over.
#[tokio::test(start_paused = true)]
async fn a_committed_saga_that_the_recovery_of_its_executor_takes_runs_once() {
    for operation in ["take_abandoned", "take_unowned", "owned"] {
        // The recovery begins at 500 ms. The commit is before it, between its take-over and its answer, and after it.
        for commit_at in 498..=505 {
            let site = Site::new();
            let steps = sequence(&site.world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
            let late = LateTakeOvers { logs: site.logs.clone(), operation };
            let logs = Hooked::new(site.logs.clone(), late);
            let sagas = Executor::new(steps.build().unwrap(), logs, config()).unwrap();
            sagas.keep_recovering(ms(501));
            let mut tx = site.database.begin();
            let started = sagas.start_in(&mut tx, ID, 7).await.unwrap();
            Clock::default().sleep(ms(commit_at)).await;
            tx.commit();
            // Another task of the process commits, so the recovery may see the saga first.
            Clock::default().sleep(ms(1)).await;
            let report = started.committed().await;
            let report = report.unwrap_or_else(|error| panic!("{operation} {commit_at}: {error}"));
            assert_ended(&report, Status::Completed, None);
            Clock::default().sleep(3 * PICK_UP).await;
            assert_eq!(site.world.seen(), ["a", "b"], "{operation} {commit_at}");
            let stats = sagas.stats();
            let ends = (stats.started + stats.resumed, stats.completed, stats.fenced);
            assert_eq!(ends, (1, 1, 0), "{operation} {commit_at}");
        }
    }
}

/// Line 2: an event starts one saga, although it is delivered repeatedly and its handler fails after the start.
#[tokio::test(start_paused = true)]
async fn an_event_starts_a_saga_in_the_transaction_of_its_receipt() -> Result<(), BoxError> {
    let site = Site::new();
    let sagas = site.executor();
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(2));
    let (orders, database, failing) = (sagas.clone(), site.database.clone(), fails.clone());
    let handler = service_fn(move |delivery: Delivery| {
        let (orders, database, failing) = (orders.clone(), database.clone(), failing.clone());
        async move {
            let event = delivery.envelope()?;
            let mut tx = database.begin();
            if event.first(&mut tx, &database, "orders").await? == Receipt::Repeated {
                return Ok(());
            }
            let started = orders.start_in(&mut tx, ID, 7).await?;
            if failing.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                return Err("before the commit".into());
            }
            tx.commit();
            drop(started.committed());
            Ok::<(), BoxError>(())
        }
    });
    let bus = Bus::new();
    let source = bus.subscribe("orders", Subscribe::new(Pattern::all()))?;
    let letters = MemoryDeadLetters::new(Clock::default());
    let consumer = Consumer::new(source, handler, consume::Config::new())?;
    let consumer = consumer.dead_letters(letters).spawn();
    for _ in 0..2 {
        let event =
            Event::new(MessageId::new(ID.get()), "shop", "order.placed", "order-7", b"7".to_vec());
        bus.publish_all_handled(Message::new(event.into_message()?, 0, 0, Duration::ZERO)).await?;
    }
    while sagas.stats().completed == 0 {
        Clock::default().sleep(ms(1)).await;
    }
    consumer.shut_down().await;
    assert_eq!(site.world.seen(), ["a", "b"], "one saga");
    assert_eq!(sagas.stats().started, 1);
    let mut tx = site.database.begin();
    let receipt = site.database.receive(&mut tx, "other", MessageId::new(ID.get())).await?;
    assert_eq!(receipt, Receipt::First);
    Ok(())
}
