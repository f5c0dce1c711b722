//! Sagas of two versions of a definition, on each database. The test moves the clock of the store.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{
    Builder, Call, Config, Definition, Executor, SagaError, SignalId, Status, Store,
};
use tower::{BoxError, service_fn};

use crate::db::{Db, on_each_database};
use crate::executors::{Bytes, Sagas, start_waiting, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

on_each_database! {
    an_approval_moves_on_its_second_day_and_keeps_its_third
    a_deployment_runs_both_versions_and_a_signal_finds_them
    a_failed_migration_changes_nothing
}

/// A step that can be undone, an approval within three days, and a last step.
fn order(version: u32, approval: &'static str, last: &'static str) -> Builder<u32, Bytes> {
    let mut saga = Definition::<u32>::builder("order", version).codec(Bytes);
    let done = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(call.into_request()));
    saga.step("reserve")
        .action((), done, |input: &u32, ()| *input)
        .undo((), done, |input: &u32, (), _| *input)
        .add();
    saga.step(approval).signal::<u32>(|_, ()| Some(3 * DAY));
    saga.step(last).action((), done, |input: &u32, ()| *input).add();
    saga
}

fn executor<D: Db>(store: &D::Store, saga: Builder<u32, Bytes>) -> Sagas<D> {
    Executor::new(saga.build().unwrap(), store.clone(), Config::new()).unwrap()
}

async fn an_approval_moves_on_its_second_day_and_keeps_its_third<D: Db>(db: D) {
    let old = executor::<D>(db.store(), order(1, "approval", "ship"));
    let ids = [old.start(7).await.unwrap().id(), old.start(8).await.unwrap().id()];
    for id in ids {
        until::<D>(&old, id, Status::Waiting).await;
    }
    old.shut_down().await.unwrap();
    db.time().advance(2 * DAY);
    let new = executor::<D>(&db.another().await, order(2, "approved", "send"));
    new.recover().await.unwrap();
    let migration = new.migrate(1, |log| Ok(log.rename("approval", "approved")?)).await.unwrap();
    assert_eq!(
        (migration.moved.len(), migration.needs_migration, migration.busy),
        (2, vec![], vec![])
    );
    // The new executor lets them wait again, for the rest of their time.
    let (clock, began) = (Clock::default(), Clock::default().now());
    for id in ids {
        while db.store().load(id).await.unwrap().unwrap().epoch < 3 {
            assert!(clock.now() - began < Duration::from_secs(60), "it is not taken");
            clock.sleep(Duration::from_millis(5)).await;
        }
        until::<D>(&new, id, Status::Waiting).await;
        let record = db.store().load(id).await.unwrap().unwrap();
        let waits = record.due_at.unwrap() - record.created_at.unwrap();
        assert!(waits.abs_diff(3 * DAY) < Duration::from_secs(60), "{waits:?}");
        assert_eq!(record.times.first().copied().flatten(), record.created_at);
    }
    new.signal(ids[0], "approved", 1_u32, SignalId::new(1)).await.unwrap();
    until::<D>(&new, ids[0], Status::Completed).await;
    db.time().advance(DAY);
    until::<D>(&new, ids[1], Status::Compensated).await;
    new.shut_down().await.unwrap();
}

async fn a_deployment_runs_both_versions_and_a_signal_finds_them<D: Db>(db: D) {
    let replica = executor::<D>(db.store(), order(1, "approval", "ship"));
    let old = start_waiting::<D>(&replica).await;
    replica.shut_down().await.unwrap();
    let store = db.another().await;
    let new = executor::<D>(&store, order(2, "approved", "send"));
    let error = new.signal(old, "approved", 1_u32, SignalId::new(1)).await.unwrap_err();
    assert!(matches!(error, SagaError::OtherVersion { version: 1, .. }), "{error}");
    let _before = new.also_run(order(1, "approval", "ship").build().unwrap()).unwrap();
    new.keep_recovering(Duration::from_secs(3600));
    let id = new.start(8).await.unwrap().id();
    until::<D>(&new, id, Status::Waiting).await;
    // In one transaction, each under the name of its own version.
    let mut tx = db.begin().await;
    for (id, name) in [(old, "approval"), (id, "approved")] {
        drop(new.signal_in(&mut tx, id, name, 1_u32, SignalId::new(1)).await.unwrap());
    }
    db.commit(tx).await;
    for id in [old, id] {
        until::<D>(&new, id, Status::Completed).await;
    }
    new.shut_down().await.unwrap();
}

async fn a_failed_migration_changes_nothing<D: Db>(db: D) {
    let old = executor::<D>(db.store(), order(1, "approval", "ship"));
    let id = start_waiting::<D>(&old).await;
    let before = db.store().load(id).await.unwrap().unwrap();
    let new = executor::<D>(&db.another().await, order(2, "approved", "send"));
    let migration = new.migrate(1, |_| Ok(())).await.unwrap();
    assert_eq!(migration.moved, []);
    let why = &migration.needs_migration[0].why;
    assert!(why.starts_with("the step \"approval\" has begun, and version 2"), "{why}");
    assert_eq!(db.store().load(id).await.unwrap().unwrap(), before);
    old.signal(id, "approval", 1_u32, SignalId::new(1)).await.unwrap();
    until::<D>(&old, id, Status::Completed).await;
    old.shut_down().await.unwrap();
}
