//! Several versions of a definition on one executor.

use super::signals::without_time;
use super::*;

/// The definition with one step before and one after a wait for a signal.
fn version(
    world: &World,
    version: u32,
    names: [&'static str; 2],
    signal: &'static str,
) -> Builder<u32> {
    let mut saga = Definition::builder("order", version);
    world.step(&mut saga, names[0], Duration::ZERO);
    saga.step(signal).signal::<u32>(|_, ()| Some(HOUR));
    world.step(&mut saga, names[1], Duration::ZERO);
    saga
}

pub(super) type Plain = Sagas<MemoryStore>;

pub(super) fn executor(world: &World, saga: Builder<u32>) -> Plain {
    Executor::new(saga.build().unwrap(), world.store.inner.clone(), config()).unwrap()
}

/// An executor of version 2, and one of version 1 that is registered with it.
fn both(world: &World) -> (Plain, Plain) {
    let new = executor(world, version(world, 2, ["a2", "b2"], "approved"));
    let old = new.also_run(version(world, 1, ["a1", "b1"], "signed").build().unwrap()).unwrap();
    (new, old)
}

#[tokio::test(start_paused = true)]
async fn an_executor_answers_for_every_version_that_it_runs() {
    let world = World::new();
    let (new, old) = both(&world);
    let ids = [old.start(7).await.unwrap().id(), new.start(7).await.unwrap().id()];
    for id in ids {
        world.until(&new, id, Status::Waiting).await;
    }
    let state = new.state(ids[0]).await.unwrap().unwrap();
    let steps: Vec<&str> = state.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["a1", "signed", "b1"]);
    let found = new.search(Search::new().status(Status::Waiting)).await.unwrap();
    let mut found: Vec<SagaId> = found.sagas.iter().map(|saga| saga.id).collect();
    found.sort();
    let mut all = ids.to_vec();
    all.sort();
    assert_eq!(found, all);
    // The names of the signals differ, and the caller knows the id only.
    for (id, name) in ids.into_iter().zip(["signed", "approved"]) {
        let sent = new.signal(id, name, 1_u32, SignalId::new(1)).await.unwrap();
        assert_eq!(sent, Signalled::Delivered);
        world.until(&new, id, Status::Completed).await;
    }
    let seen = world.seen();
    assert_eq!(names(&seen), ["a1", "a2", "b1", "b2"]);
    assert!(seen.iter().all(|(second, _)| *second <= 1), "without a poll: {seen:?}");
    let error = new.signal(ids[0], "approved", 1_u32, SignalId::new(2)).await.unwrap_err();
    assert!(error.to_string().contains("the definition has \"signed\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_and_a_signal_in_a_transaction_reach_another_version() {
    let world = World::new();
    let (new, old) = both(&world);
    let [one, two] = [old.start(7).await.unwrap().id(), old.start(8).await.unwrap().id()];
    for id in [one, two] {
        world.until(&new, id, Status::Waiting).await;
    }
    let before = world.clock.now();
    assert!(new.cancel(one).await.unwrap());
    without_time().await;
    assert_eq!(new.state(one).await.unwrap().unwrap().status, Status::Compensated);
    let database = crate::outbox::MemoryStore::new(world.clock.clone());
    let mut tx = database.begin();
    let sent = new.signal_in(&mut tx, two, "signed", 1_u32, SignalId::new(1)).await.unwrap();
    tx.commit();
    sent.committed();
    without_time().await;
    assert_eq!(new.state(two).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(world.clock.now(), before, "without a poll");
}

#[tokio::test(start_paused = true)]
async fn one_recovery_resumes_the_sagas_of_every_version_and_reports_the_others() {
    let world = World::new();
    let third = executor(&world, version(&world, 3, ["a3", "b3"], "approved"));
    let (new, old) = both(&world);
    let mut ids = Vec::new();
    for sagas in [&old, &new, &third] {
        ids.push(sagas.start(7).await.unwrap().id());
        world.until(sagas, ids[ids.len() - 1], Status::Waiting).await;
    }
    for sagas in [new, third] {
        sagas.shut_down().await.unwrap();
    }
    assert!(old.start(7).await.is_err(), "a registered version shuts down too");
    world.clock.sleep(HOUR + crate::saga::OVERDUE + SECOND).await;
    let (new, _old) = both(&world);
    let recovery = new.recover().await.unwrap();
    assert_eq!(recovery.resumed, [ids[1], ids[0]]);
    let others: Vec<_> = recovery.other_versions.iter().map(|one| (one.id, one.version)).collect();
    assert_eq!(others, [(ids[2], 3)]);
    for id in &ids[..2] {
        world.until(&new, *id, Status::Compensated).await;
    }
    let error = new.state(ids[2]).await.unwrap_err();
    let wanted = format!(
        "saga {}: has version 3 of \"order\", and the executor runs versions 2, 1; register that version with \
         also_run, or migrate the saga",
        ids[2]
    );
    assert_eq!(error.to_string(), wanted);
    let error = new.signal(ids[2], "approved", 1_u32, SignalId::new(1)).await.unwrap_err();
    assert_eq!(error.to_string(), wanted);
}

#[tokio::test(start_paused = true)]
async fn an_operator_retries_and_skips_without_knowing_the_version() {
    let world = World::new();
    let new = executor(&world, version(&world, 2, ["a2", "b2"], "approved"));
    let mut before = Definition::<u32>::builder("order", 1);
    let broken = service_fn(async |_: Call<u32>| Err::<(), BoxError>("no answer".into()));
    let undo = service_fn(async |_: Call<u32>| Err::<(), BoxError>("no answer".into()));
    before
        .step("a")
        .action((), broken, |cents: &u32, ()| *cents)
        .undo((), undo, |cents, (), _| *cents)
        .add();
    let old = new.also_run(before.build().unwrap()).unwrap();
    let id = old.run_to_end(7).await.unwrap().id();
    let stuck = new.state(id).await.unwrap().unwrap();
    assert_eq!(stuck.status, Status::Stuck, "{stuck}");
    assert_eq!(new.retry(id).await.unwrap().await.unwrap().status(), Status::Stuck);
    assert_eq!(new.skip(id).await.unwrap().await.unwrap().status(), Status::Compensated);
}

#[tokio::test(start_paused = true)]
async fn a_version_is_registered_once_and_under_the_same_name() {
    let world = World::new();
    let (new, old) = both(&world);
    let again = |number| version(&world, number, ["a", "b"], "signed").build().unwrap();
    for number in [1, 2] {
        let error = new.also_run(again(number)).unwrap_err();
        assert!(matches!(error, InvalidVersion::AlreadyRuns { version, .. } if version == number));
    }
    let mut other = Definition::<u32>::builder("refund", 3);
    world.step(&mut other, "a", Duration::ZERO);
    let error = new.also_run(other.build().unwrap()).unwrap_err();
    assert!(matches!(error, InvalidVersion::OtherDefinition { .. }), "{error}");
    // A version that was shut down makes room for its next executor.
    old.shut_down().await.unwrap();
    let old = new.also_run(again(1)).unwrap();
    new.shut_down().await.unwrap();
    assert!(old.start(7).await.is_err());
    let error = new.also_run(again(3)).unwrap_err();
    assert!(matches!(error, InvalidVersion::ShutDown { .. }), "{error}");
}

/// Each registered version once counted as a saga that was taken over.
#[tokio::test(start_paused = true)]
async fn versions_share_the_room_for_resumed_sagas_and_take_none_of_it() {
    let world = World::new();
    let saga = order(&world).build().unwrap();
    let new = Executor::new(saga, world.store.inner.clone(), config().max_resumed(1)).unwrap();
    let mut olds = Vec::new();
    for number in 2..=9 {
        let old = version(&world, number, ["a", "b"], "signed").build().unwrap();
        olds.push(new.also_run(old).unwrap());
    }
    let ids = [new.start(7).await.unwrap().id(), olds[0].start(7).await.unwrap().id()];
    for id in ids {
        world.until(&new, id, Status::Waiting).await;
    }
    for (id, status) in ids.into_iter().zip([Status::Completed, Status::Compensated]) {
        world.until(&new, id, status).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_awaits_the_steps_of_every_version_and_releases_their_sagas() {
    let world = World::new();
    let new = executor(&world, version(&world, 2, ["a2", "b2"], "approved"));
    let mut before = Definition::builder("order", 1);
    world.step(&mut before, "a1", MINUTE);
    world.step(&mut before, "b1", MINUTE);
    let old = new.also_run(before.build().unwrap()).unwrap();
    let id = old.start(7).await.unwrap().id();
    world.clock.sleep(SECOND).await;
    new.shut_down().await.unwrap();
    assert_eq!((world.seconds(), names(&world.seen())), (60, vec!["a1"]));
    let taken = world.store.inner.take_saga(WorkerId::new(9), id).await.unwrap();
    assert!(taken.is_some(), "its lease is released");
}

/// The loops of an executor hold it weakly, and no executor holds the one it is registered with.
#[tokio::test(start_paused = true)]
async fn a_dropped_executor_ends_with_its_versions() {
    let world = World::new();
    let (new, old) = both(&world);
    new.keep_recovering(SECOND);
    world.clock.sleep(MINUTE).await;
    let cores = (Arc::downgrade(&new.core), Arc::downgrade(&old.core));
    drop(old);
    world.clock.sleep(MINUTE).await;
    assert_eq!(cores.1.strong_count(), 1, "the executor keeps it");
    drop(new);
    world.clock.sleep(MINUTE).await;
    assert_eq!((cores.0.strong_count(), cores.1.strong_count()), (0, 0));
}
