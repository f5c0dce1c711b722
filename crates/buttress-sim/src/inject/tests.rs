//! Faults of steps and stores under a real executor.

use std::sync::Arc;
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, Spawner, StoreErrorKind};
use buttress_durable::outbox::{self, MessageId, NewMessage, Write};
use buttress_durable::saga::{
    Builder, Call, Config, Definition, Executor, MemoryStore, Report, SagaError, SagaId, Status,
    StepStatus, Store, WorkerId,
};
use tower::{BoxError, service_fn};

use super::{Count, Effects, Injected, StepFaults, StoreFaults};
use crate::Seed;
use crate::conformance::unless;
use crate::crash::{CrashPoints, Side};

const ID: SagaId = SagaId::new(1);

fn is_definite(error: &BoxError) -> bool {
    error.downcast_ref().is_some_and(Injected::is_definite)
}

/// A saga of the steps "a" and "b", each with an undo, over faults and effects.
fn order(faults: &StepFaults, effects: &Effects) -> Builder<u32> {
    let mut order = Definition::<u32>::builder("order", 1);
    for name in ["a", "b"] {
        let service = faults.around(effects.participant(|order: &u32| *order), BoxError::from);
        order
            .step(name)
            .timeout(Duration::from_secs(1))
            .undo_timeout(Duration::from_secs(1))
            .action((), service.clone(), |order: &u32, ()| *order)
            .definite(is_definite)
            .undo((), service, |order: &u32, (), _| *order)
            .add();
    }
    order
}

async fn run(faults: &StepFaults, effects: &Effects) -> Report {
    let order = order(faults, effects).build().unwrap();
    let orders = Executor::in_memory(order, Config::new()).unwrap();
    orders.start_as(ID, 7).await.unwrap().await.unwrap()
}

fn checked(effects: &Effects, report: &Report) {
    effects.check(report.id(), report.steps().iter().copied()).unwrap();
}

fn count(actions: u64, undos: u64) -> Count {
    Count { actions, undos }
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_an_action_has_its_effect_and_its_end() {
    type Inject = fn(super::At<'_>) -> super::Injection;
    let faults: [(Inject, Status, Option<&str>, Count, Count); 6] = [
        (|at| at.fail("no"), Status::Compensated, Some("b: no"), count(1, 1), count(0, 0)),
        (
            |at| at.doubt_before(),
            Status::Compensated,
            Some("b: the request was lost"),
            count(1, 1),
            count(0, 0),
        ),
        (
            |at| at.doubt_after(),
            Status::Compensated,
            Some("b: the answer was lost"),
            count(1, 1),
            count(1, 1),
        ),
        (|at| at.repeat(), Status::Completed, None, count(1, 0), count(1, 0)),
        (
            |at| at.hang_before(),
            Status::Compensated,
            Some("b: no answer in time"),
            count(1, 1),
            count(0, 0),
        ),
        (
            |at| at.hang_after(),
            Status::Compensated,
            Some("b: no answer in time"),
            count(1, 1),
            count(1, 1),
        ),
    ];
    for (inject, status, reason, a, b) in faults {
        let (faults, effects) = (StepFaults::new(), Effects::new());
        let injection = inject(faults.action("b"));
        let report = run(&faults, &effects).await;
        assert_eq!((report.status(), report.reason()), (status, reason));
        assert_eq!((effects.count(ID, "a"), effects.count(ID, "b")), (a, b), "{reason:?}");
        assert_eq!((injection.hits(), faults.unused().len()), (1, 0));
        checked(&effects, &report);
    }
}

#[tokio::test(start_paused = true)]
async fn only_an_error_that_the_saga_takes_for_definite_leaves_a_step_failed() {
    for (lost, status) in [(false, StepStatus::Failed), (true, StepStatus::Undone)] {
        let (faults, effects) = (StepFaults::new(), Effects::new());
        match lost {
            true => faults.action("b").doubt_before(),
            false => faults.action("b").fail("no"),
        };
        assert_eq!(run(&faults, &effects).await.steps()[1].1, status);
    }
}

#[tokio::test(start_paused = true)]
async fn undos_have_faults_of_their_own_and_are_attempted_again() {
    let (faults, effects) = (StepFaults::new(), Effects::new());
    faults.action("b").fail("no");
    faults.undo("a").first(2).fail("busy");
    faults.undo("a").nth(3).doubt_after();
    faults.undo("a").nth(4).repeat();
    let report = run(&faults, &effects).await;
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(report.history()[0].undo_attempts, 4);
    effects.assert_undone(ID, "a");
    assert_eq!(faults.unused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn faults_of_one_saga_leave_the_others_alone() {
    let (faults, effects) = (StepFaults::new(), Effects::new());
    faults.action("a").of(SagaId::new(2)).always().fail("no");
    let order = order(&faults, &effects).build().unwrap();
    let orders = Executor::in_memory(order, Config::new()).unwrap();
    for (id, status) in [(1, Status::Completed), (2, Status::Compensated), (3, Status::Completed)] {
        let ended = orders.start_as(SagaId::new(id), 7).await.unwrap().await.unwrap();
        assert_eq!(ended.status(), status, "{id}");
    }
}

#[test]
fn a_fault_that_nothing_meets_is_named() {
    let faults = StepFaults::new();
    faults.action("chrage").of(ID).nth(2).fail("no");
    faults.undo("a").share(0.5, Seed::new(7)).doubt_after();
    let first = format!("action \"chrage\" of saga {ID}, call 2: fails");
    let second = "undo \"a\", a share of 0.5 of the calls, Seed(7): loses its answer".to_owned();
    assert_eq!(faults.unused(), [first, second]);
    faults.clear();
    assert_eq!(faults.unused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_process_crashes_at_a_step_before_or_after_its_effect() {
    for (before, crashed) in [(true, count(0, 0)), (false, count(1, 0))] {
        let (faults, effects) = (StepFaults::new(), Effects::new());
        let store = MemoryStore::new(Clock::default());
        let process = CrashPoints::counting();
        let at = faults.action("b");
        let injection = if before { at.crash_before(&process) } else { at.crash_after(&process) };
        let on = |config| {
            Executor::new(order(&faults, &effects).build().unwrap(), store.clone(), config).unwrap()
        };
        let first = on(Config::new().spawner(process.spawner(Spawner::default())));
        let life = process.guard(async { first.start_as(ID, 7).await.unwrap().await }).await;
        assert!(life.is_none());
        let boundary = process.crashed().unwrap();
        let side = if before { Side::Before } else { Side::After };
        assert_eq!((boundary.name, boundary.side), ("b", side));
        assert_eq!((effects.count(ID, "b"), injection.hits()), (crashed, 1));
        Clock::default().sleep(Duration::from_secs(30)).await;
        let second = on(Config::new());
        assert_eq!(second.recover().await.unwrap().resumed, [ID]);
        let report = second.start_or_attach(ID, 7).await.unwrap().await.unwrap();
        assert_eq!(report.status(), Status::Completed);
        checked(&effects, &report);
    }
}

#[test]
fn a_process_crashes_once() {
    let process = CrashPoints::counting();
    process.hit("first").unwrap();
    let crashed = process.crash("second", Side::Before);
    assert_eq!((crashed.0.number, crashed.0.name), (2, "second"));
    assert_eq!(process.crash("third", Side::After), crashed);
    assert_eq!(process.hit("fourth"), Err(crashed));
    assert_eq!(process.reached().len(), 2);
}

/// A service that does not recognise repetitions has its effect twice, and the record says so.
#[tokio::test(start_paused = true)]
async fn a_repetition_finds_a_service_that_ignores_keys() {
    for recognises in [false, true] {
        let (faults, effects) = (StepFaults::new(), Effects::new());
        let mut order = Definition::<u32>::builder("order", 1);
        let request = |order: &u32, ()| *order;
        if recognises {
            let service = effects.participant(|order: &u32| *order);
            order.step("a").action((), faults.around(service, BoxError::from), request).add();
        } else {
            let service = service_fn(async |call: Call<u32>| Ok::<_, BoxError>(*call.request()));
            let service = effects.around(service);
            order.step("a").action((), faults.around(service, BoxError::from), request).add();
        }
        faults.action("a").repeat();
        let orders = Executor::in_memory(order.build().unwrap(), Config::new()).unwrap();
        let report = orders.start_as(ID, 7).await.unwrap().await.unwrap();
        let checked = effects.check(ID, report.steps().iter().copied());
        let wrong = format!("saga {ID}, step \"a\" is done: 2 actions and 0 undos");
        assert_eq!(checked, if recognises { Ok(()) } else { Err(wrong) });
    }
}

/// The saga takes every error for definite, and forgets the effect of a step whose answer was lost.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_finds_a_definition_that_takes_every_error_for_definite() {
    let (faults, effects) = (StepFaults::new(), Effects::new());
    let service = faults.around(effects.participant(|order: &u32| *order), BoxError::from);
    let mut order = Definition::<u32>::builder("order", 1);
    order
        .step("a")
        .action((), service.clone(), |order: &u32, ()| *order)
        .definite(|_| true)
        .undo((), service, |order: &u32, (), _| *order)
        .add();
    faults.action("a").doubt_after();
    let orders = Executor::in_memory(order.build().unwrap(), Config::new()).unwrap();
    let report = orders.start_as(ID, 7).await.unwrap().await.unwrap();
    let wrong = format!("saga {ID}, step \"a\" is failed: 1 actions and 0 undos");
    assert_eq!(effects.check(ID, report.steps().iter().copied()), Err(wrong));
}

#[tokio::test(start_paused = true)]
async fn a_step_without_an_effect_is_ignored_and_an_unknown_step_is_not() {
    let effects = Effects::new().ignoring("nap");
    let service = effects.participant(|order: &u32| *order);
    let mut order = Definition::<u32>::builder("order", 1);
    order.step("nap").wait(|_, ()| Duration::from_secs(60));
    order.step("a").action((), service, |order: &u32, ()| *order).add();
    let orders = Executor::in_memory(order.build().unwrap(), Config::new()).unwrap();
    let report = orders.start_as(ID, 7).await.unwrap().await.unwrap();
    checked(&effects, &report);
    let others = effects.check(ID, [("b".into(), StepStatus::Done)]);
    let missing = format!("saga {ID}, step \"b\" is done: 0 actions and 0 undos");
    let unknown = format!("saga {ID} has no step \"a\", which had 1 actions and 0 undos");
    assert_eq!(others, Err(format!("{missing}\n{unknown}")));
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_a_store_comes_before_or_after_its_effect() {
    let memory = MemoryStore::of_bytes(Clock::default());
    let (faults, worker) = (StoreFaults::new(), WorkerId::new(1));
    let store = faults.over(memory.clone());
    let second = Duration::from_secs(1);
    let create = async |id: u128| {
        let beginning = buttress_durable::saga::Beginning::new(vec![1]);
        let saga = buttress_durable::saga::NewSaga::new(
            SagaId::new(id),
            ("order", 1),
            "json",
            worker,
            beginning,
        );
        let created = unless(store.create(saga), Clock::default().sleep(second)).await;
        let known = memory.load(SagaId::new(id)).await.unwrap().is_some();
        (created.map(|created| created.map_err(|error| error.kind())), known)
    };
    store.renew_worker(worker, Duration::from_secs(60)).await.unwrap();
    faults.on("create").fail(StoreErrorKind::Misconfigured);
    assert_eq!(create(1).await, (Some(Err(StoreErrorKind::Misconfigured)), false));
    faults.on("create").lose_answer();
    assert_eq!(create(2).await, (Some(Err(StoreErrorKind::Transient)), true));
    faults.on("create").hang_before();
    assert_eq!(create(3).await, (None, false));
    faults.on("create").hang_after();
    assert_eq!(create(4).await, (None, true));
    faults.on("create").late_after(2 * second);
    assert_eq!(create(5).await, (None, true));
    faults.on("create").late_before(2 * second);
    assert_eq!(create(6).await, (None, false));
    faults.on("create").late_before(second / 2);
    assert_eq!(create(7).await, (Some(Ok(())), true));
    for (id, after) in [(8, false), (9, true)] {
        let process = CrashPoints::counting();
        match after {
            true => faults.on("create").crash_after(&process),
            false => faults.on("create").crash_before(&process),
        };
        assert!(process.guard(create(id)).await.is_none());
        assert_eq!(memory.load(SagaId::new(id)).await.unwrap().is_some(), after);
    }
    assert_eq!(faults.unused(), Vec::<String>::new());
    assert_eq!(create(10).await, (Some(Ok(())), true));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_several_operations_lasts_until_it_is_lifted() {
    let faults = StoreFaults::new();
    let store = faults.over(MemoryStore::of_bytes(Clock::default()));
    let outage = faults.on_each(["load", "list"]).always().fail(StoreErrorKind::Transient);
    let all = faults.on_all().nth(4).fail(StoreErrorKind::Corrupt);
    let load = async || store.load(ID).await.map_err(|error| error.kind());
    let list = async || {
        let page = buttress_durable::saga::Page::first(1);
        store.list(page).await.map_err(|error| error.kind())
    };
    assert_eq!(load().await, Err(StoreErrorKind::Transient));
    assert_eq!(list().await, Err(StoreErrorKind::Transient));
    assert!(!store.request_cancel(ID).await.unwrap());
    assert_eq!((outage.hits(), all.hits()), (2, 0));
    outage.lift();
    assert_eq!(load().await, Err(StoreErrorKind::Corrupt), "the fourth call");
    assert_eq!((load().await, list().await), (Ok(None), Ok(Vec::new())));
    assert_eq!((outage.hits(), all.hits()), (2, 1));
}

/// A statement in the caller's transaction has faults too.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_within_a_transaction_leaves_the_statement_in_it() {
    for lost in [false, true] {
        let memory = outbox::MemoryStore::new(Clock::default());
        let faults = StoreFaults::new();
        let store = faults.over(memory.clone());
        match lost {
            true => faults.on("write").lose_answer(),
            false => faults.on("write").fail(StoreErrorKind::Transient),
        };
        let mut tx = memory.begin();
        let message = NewMessage::new(MessageId::new(1), "key", "x");
        assert!(store.write(&mut tx, &message).await.is_err());
        tx.commit();
        let backlog = outbox::Store::backlog(&memory).await.unwrap();
        assert_eq!(backlog.pending, u64::from(lost));
    }
}

/// Random faults of steps and store, two processes that crash: the saga ends, and the effects are those of its log.
#[tokio::test(start_paused = true)]
async fn sagas_are_whole_under_random_faults() {
    let mut ends = std::collections::BTreeMap::<&str, u32>::new();
    let mut crashed = 0;
    for seed in (0..100).map(Seed::new) {
        let (steps, effects, stores) = (StepFaults::new(), Effects::new(), StoreFaults::new());
        for name in ["a", "b"] {
            let seed = seed.child(name);
            steps.action(name).share(0.15, seed.child("fail")).fail("no");
            steps.action(name).share(0.2, seed.child("doubt")).doubt_after();
            steps.undo(name).share(0.3, seed.child("undo")).doubt_after();
            steps.action(name).share(0.3, seed.child("again")).repeat();
        }
        stores.on("append").share(0.2, seed.child("append")).lose_answer();
        stores.on_all().share(0.1, seed.child("store")).fail(StoreErrorKind::Transient);
        let process = CrashPoints::counting();
        stores.on("append").nth(seed.get() % 4).crash_after(&process);
        let store = stores.over(MemoryStore::new(Clock::default()));
        let on = |config: Config| {
            let order = order(&steps, &effects).build().unwrap();
            // Enough attempts that no undo leaves the saga stuck.
            let config = config.undo_retry(50, Backoff::fixed(Duration::from_millis(100)));
            Arc::new(Executor::new(order, store.clone(), config).unwrap())
        };
        let first = on(Config::new().spawner(process.spawner(Spawner::default())));
        let life = async {
            // A store that fails may refuse a start.
            while let Err(SagaError::Store { .. }) = first.start_as(ID, 7).await.map(drop) {
                Clock::default().sleep(Duration::from_secs(1)).await;
            }
            Clock::default().sleep(Duration::from_secs(10)).await;
        };
        crashed += u32::from(process.guard(life).await.is_none());
        let second = on(Config::new());
        second.keep_recovering(Duration::from_secs(1));
        Clock::default().sleep(Duration::from_secs(120)).await;
        stores.clear();
        let tree = second.state(ID).await.unwrap().unwrap();
        assert!(tree.status.is_ended(), "{seed:?}: {tree}");
        let agreed = effects.check(ID, tree.steps.iter().map(|step| (step.name, step.status)));
        assert_eq!(agreed, Ok(()), "{seed:?}: {tree}");
        *ends.entry(tree.status.as_str()).or_default() += 1;
    }
    assert!(ends.values().all(|count| *count >= 15) && ends.len() == 2, "{ends:?}");
    assert!(crashed >= 30, "{crashed}");
}
