//! Whole sagas that wait, on each database. The test moves the clock of the store.

use std::time::Duration;

use buttress::{Clock, StoreErrorKind, VirtualClock};
use buttress_durable::saga::{
    Call, Config, Definition, Executor, Kind, SagaId, Status, Store, TakeOver, WorkerId,
};
use tower::{BoxError, service_fn};

use crate::db::{Db, NANO, SECOND, on_each_database, rng};
use crate::executors::{Bytes, Sagas, start_waiting, until};
use crate::sagas::{append, new_saga};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

on_each_database! {
    a_saga_waits_and_another_process_continues_it_at_its_time
    a_wait_runs_out_while_no_process_is_there
    a_cancel_undoes_a_saga_that_waits
    the_clock_of_a_worker_that_is_far_ahead_ends_no_wait
    two_processes_wake_each_saga_once
    a_damaged_saga_that_is_due_holds_up_no_other
    a_wait_whose_length_is_lost_is_reported
}

/// A step that can be undone, a wait of three days, and a last step.
fn order<D: Db>(store: &D::Store, config: Config) -> Sagas<D> {
    let mut saga = Definition::<u32>::builder("order", 3).codec(Bytes);
    let done = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(call.into_request()));
    saga.step("a")
        .action((), done, |input: &u32, ()| *input)
        .undo((), done, |input: &u32, (), _| *input)
        .add();
    saga.step("approval").wait(|_, ()| 3 * DAY);
    saga.step("b").kind(Kind::Pivot).action((), done, |input: &u32, ()| *input).add();
    Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
}

async fn is_due<D: Db>(db: &D) -> bool {
    db.store().has_due("order", 3).await.unwrap()
}

async fn a_saga_waits_and_another_process_continues_it_at_its_time<D: Db>(db: D) {
    let here = order::<D>(db.store(), Config::new());
    let there = order::<D>(&db.another().await, Config::new());
    let start = db.time().clock().unix();
    let id = here.start(7).await.unwrap().id();
    let tree = until::<D>(&here, id, Status::Waiting).await;
    assert_eq!(tree.until, Some(start + 3 * DAY), "by the store's clock");
    here.shut_down().await.unwrap();
    assert_eq!(there.recover().await.unwrap().resumed, []);
    db.time().advance(3 * DAY - NANO);
    assert!(!is_due(&db).await);
    assert_eq!(there.recover().await.unwrap().resumed, []);
    db.time().advance(NANO);
    let tree = until::<D>(&there, id, Status::Completed).await;
    let wait = &tree.steps[1].history;
    assert_eq!((wait.started, wait.ended), (Some(start), Some(start + 3 * DAY)));
    assert_eq!((tree.until, there.stats().woken, there.stats().resumed), (None, 1, 0));
    there.shut_down().await.unwrap();
}

async fn a_wait_runs_out_while_no_process_is_there<D: Db>(db: D) {
    let first = order::<D>(db.store(), Config::new());
    let id = start_waiting::<D>(&first).await;
    first.shut_down().await.unwrap();
    drop(first);
    db.time().advance(100 * DAY);
    let second = order::<D>(&db.another().await, Config::new());
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    until::<D>(&second, id, Status::Completed).await;
    second.shut_down().await.unwrap();
}

async fn a_cancel_undoes_a_saga_that_waits<D: Db>(db: D) {
    let sagas = order::<D>(db.store(), Config::new());
    let execution = sagas.start(7).await.unwrap();
    until::<D>(&sagas, execution.id(), Status::Waiting).await;
    db.time().advance(HOUR);
    assert!(sagas.cancel(execution.id()).await.unwrap());
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("cancelled")));
    assert_eq!(sagas.stats().compensations_executed, 1);
    assert!(!is_due(&db).await);
    sagas.shut_down().await.unwrap();
}

/// The clock of the worker moves with the test, an hour ahead of the store's and faster.
async fn the_clock_of_a_worker_that_is_far_ahead_ends_no_wait<D: Db>(db: D) {
    let ahead = VirtualClock::new();
    ahead.set_skew(3_600_000_000_000);
    let config = Config::new().clock(ahead.clock()).lease(300 * DAY).patience(300 * DAY);
    let sagas = order::<D>(db.store(), config.keep_forever());
    let id = start_waiting::<D>(&sagas).await;
    db.time().advance(3 * DAY - SECOND);
    for _ in 0..20 {
        // The worker looks for sagas that are due, each time.
        ahead.advance(DAY);
        Clock::default().sleep(Duration::from_millis(5)).await;
        assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Waiting);
    }
    db.time().advance(SECOND);
    let began = Clock::default().now();
    while sagas.state(id).await.unwrap().unwrap().status != Status::Completed {
        assert!(Clock::default().now() - began < Duration::from_secs(60));
        ahead.advance(SECOND);
        Clock::default().sleep(Duration::from_millis(5)).await;
    }
    sagas.shut_down().await.unwrap();
}

async fn two_processes_wake_each_saga_once<D: Db>(db: D) {
    let here = order::<D>(db.store(), Config::new());
    let there = order::<D>(&db.another().await, Config::new());
    there.recover().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(here.start(7).await.unwrap().id());
    }
    for id in &ids {
        until::<D>(&here, *id, Status::Waiting).await;
    }
    assert_eq!((here.stats().active, there.stats().active), (0, 0));
    db.time().advance(3 * DAY);
    for id in &ids {
        until::<D>(&here, *id, Status::Completed).await;
        let record = db.store().load(*id).await.unwrap().unwrap();
        assert_eq!(record.epoch, 2, "taken once");
    }
    assert_eq!(here.stats().woken + there.stats().woken, 30);
    assert_eq!(here.stats().fenced + there.stats().fenced, 0);
    here.shut_down().await.unwrap();
    there.shut_down().await.unwrap();
}

/// Returns a saga that waits for this time.
async fn waiting<D: Db>(db: &D, worker: WorkerId, length: Duration) -> SagaId {
    let saga = new_saga(worker);
    db.store().create(saga.clone()).await.unwrap();
    db.store().append(append(saga.id, 1, 1).waiting(length)).await.unwrap();
    saga.id
}

async fn a_damaged_saga_that_is_due_holds_up_no_other<D: Db>(db: D) {
    let (worker, store) = (WorkerId::random(&rng()), db.store());
    store.renew_worker(worker, DAY).await.unwrap();
    let damaged = waiting(&db, worker, SECOND).await;
    let sound = waiting(&db, worker, 2 * SECOND).await;
    let lost = format!(
        "DELETE FROM {{s}}buttress_saga_entry WHERE position = -1 AND saga = \
         (SELECT number FROM {{s}}buttress_saga WHERE id = {})",
        D::id_literal(damaged.get())
    );
    assert_eq!(db.execute(&lost).await, 1);
    db.time().advance(2 * SECOND);
    let take = async || store.take_due(TakeOver::new(worker, ("order", 3), 1)).await.unwrap();
    let first = take().await;
    assert_eq!((first.sagas.len(), first.corrupt.len()), (0, 1));
    assert_eq!(first.corrupt[0].0, damaged);
    assert!(first.corrupt[0].1.contains("its input is missing"), "{:?}", first.corrupt);
    let second = take().await;
    assert_eq!((second.sagas[0].id, second.corrupt.len()), (sound, 0));
    assert!(!is_due(&db).await);
    db.time().advance(60 * SECOND);
    assert_eq!(take().await.corrupt.len(), 1, "a minute later");
}

async fn a_wait_whose_length_is_lost_is_reported<D: Db>(db: D) {
    let sagas = order::<D>(db.store(), Config::new());
    let id = start_waiting::<D>(&sagas).await;
    let length = "UPDATE {s}buttress_saga_entry SET note = NULL WHERE note = '259200.000000000 s'";
    assert_eq!(db.execute(length).await, 1);
    let error = db.store().load(id).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("WaitStarted without a length"), "{error}");
    sagas.shut_down().await.unwrap();
}
