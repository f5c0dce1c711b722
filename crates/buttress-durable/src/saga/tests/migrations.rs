//! Sagas that move to another version of their definition, under a paused clock.

use super::versions::{Plain, executor};
use super::*;

mod refused;

const DAY: Duration = Duration::from_secs(24 * 3600);

type Log = MigratedLog<InMemory>;

/// The step `first`, an approval within three days, and the step `last`.
pub(super) fn approval(
    world: &World,
    version: u32,
    (first, signal, last): (&'static str, &'static str, &'static str),
) -> Builder<u32> {
    let mut saga = Definition::builder("order", version);
    world.step(&mut saga, first, Duration::ZERO);
    saga.step(signal).signal::<u32>(|_, ()| Some(3 * DAY));
    world.step(&mut saga, last, Duration::ZERO);
    saga
}

/// Starts a saga of version 1, and returns its id once it waits for its approval.
async fn waiting(world: &World) -> SagaId {
    let old = executor(world, approval(world, 1, ("reserve", "approval", "ship")));
    let id = world.waiting(&old).await;
    old.shut_down().await.unwrap();
    id
}

fn rename(log: &mut Log) -> Result<(), BoxError> {
    log.rename("approval", "approved")?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_approval_within_three_days_keeps_its_third_day() {
    let world = World::new();
    let ids = [waiting(&world).await, waiting(&world).await];
    world.clock.sleep(2 * DAY).await;
    let new = executor(&world, approval(&world, 2, ("reserve", "approved", "send")));
    new.recover().await.unwrap();
    let migration = new.migrate(1, rename).await.unwrap();
    assert_eq!(
        (migration.moved.len(), migration.needs_migration, migration.busy),
        (2, vec![], vec![])
    );
    world.clock.sleep(SECOND).await;
    for id in ids {
        let state = new.state(id).await.unwrap().unwrap();
        assert_eq!((state.status, state.signals), (Status::Waiting, vec!["approved".into()]));
        let until = state.until.unwrap() - world.start;
        assert!(until >= 3 * DAY && until < 3 * DAY + SECOND, "{until:?}");
    }
    world.clock.sleep(DAY / 2).await;
    new.signal(ids[0], "approved", 1_u32, SignalId::new(1)).await.unwrap();
    world.until(&new, ids[0], Status::Completed).await;
    world.until(&new, ids[1], Status::Waiting).await;
    world.clock.sleep(DAY / 2).await;
    let state = world.until(&new, ids[1], Status::Compensated).await;
    assert_eq!(state.reason.unwrap(), "approved: no signal within 259200s");
    let day = DAY.as_secs();
    assert_seen(
        &world,
        &[(0, "reserve"), (0, "reserve"), (5 * day / 2, "send"), (3 * day, "undo reserve")],
    );
    let history = new.state(ids[1]).await.unwrap().unwrap().steps.remove(0).history;
    assert!(history.started.unwrap() - world.start < SECOND, "the entries keep their times");
}

/// A changed input, output and type, a step that is gone, one that is done already, and one that is new.
#[tokio::test(start_paused = true)]
async fn a_function_changes_what_the_names_do_not_map() {
    let world = World::new();
    let mut before = Definition::<u32>::builder("order", 1);
    world.step(&mut before, "reserve", Duration::ZERO);
    world.step(&mut before, "score", Duration::ZERO);
    before.step("approved").signal::<u32>(|_, ()| None);
    let old = executor(&world, before);
    let id = world.waiting(&old).await;
    old.shut_down().await.unwrap();

    let seen = Arc::new(Mutex::new(String::new()));
    let see = seen.clone();
    let mut after = Definition::<String>::builder("order", 2);
    let done = || service_fn(async |_: Call<u32>| Ok::<String, BoxError>("called".to_owned()));
    let reserved = after.step("reserve").action((), done(), |_, ()| 0).add();
    let checked = after.step("check").action((), done(), |_, ()| 0).add();
    let approved = after.step("approved").signal::<u32>(|_, ()| None);
    after
        .step("ship")
        .needs((reserved, checked, approved))
        .action((), done(), move |input, (reserved, checked, approved)| {
            *see.lock().unwrap() = format!("{input} {reserved} {checked} {approved}");
            0
        })
        .add();
    let new = Executor::new(after.build().unwrap(), world.store.inner.clone(), config()).unwrap();
    let migration = new.migrate(1, |log| {
        assert_eq!((log.saga(), log.status()), (id, Status::Waiting));
        assert_eq!(log.steps().collect::<Vec<_>>(), ["reserve", "score", "approved"]);
        let (input, output) = (log.input::<u32>()?, log.output::<u64>("reserve")?);
        log.set_input(format!("order {input}"))?;
        log.set_output("reserve", format!("stock {}", output.ok_or("no output")?))?;
        log.forget("score")?;
        log.done("check", "sound".to_owned())?;
        Ok(())
    });
    let migration = migration.await.unwrap();
    assert_eq!((migration.moved, migration.needs_migration), (vec![id], vec![]));
    new.recover().await.unwrap();
    new.signal(id, "approved", 42_u32, SignalId::new(1)).await.unwrap();
    world.until(&new, id, Status::Completed).await;
    assert_eq!(*seen.lock().unwrap(), "order 7 stock 0 sound 42");
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_runs_moves_after_the_end_of_its_worker() {
    let world = World::new();
    let old = executor(&world, order_taking(&world, MINUTE));
    let id = old.start(7).await.unwrap().id();
    world.clock.sleep(SECOND).await;
    let mut saga = Definition::builder("order", 2);
    world.step(&mut saga, "a", Duration::ZERO);
    world.step(&mut saga, "c", Duration::ZERO);
    let new = executor(&world, saga);
    let migration = new.migrate(1, |_| Ok(())).await.unwrap();
    assert_eq!((migration.moved, migration.busy), (vec![], vec![id]));
    old.shut_down().await.unwrap();
    new.keep_recovering(10 * MINUTE);
    world.clock.sleep(SECOND).await;
    let migration = new.migrate(1, |_| Ok(())).await.unwrap();
    assert_eq!((migration.moved, migration.busy), (vec![id], vec![]));
    world.until(&new, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (61, "c")]);
    let migration = new.migrate(1, |_| Ok(())).await.unwrap();
    assert_eq!(migration, Migration::default());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_moves_the_saga_once() {
    let world = World::new();
    let id = waiting(&world).await;
    let new = world.executor(approval(&world, 2, ("reserve", "approved", "send")));
    new.recover().await.unwrap();
    world.store.set(Fault::LosesMigration);
    let error = new.migrate(1, rename).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
    let migration = new.migrate(1, rename).await.unwrap();
    assert_eq!(migration, Migration::default(), "it has moved before");
    new.signal(id, "approved", 1_u32, SignalId::new(1)).await.unwrap();
    world.until(&new, id, Status::Completed).await;
    assert_eq!(names(&world.seen()), ["reserve", "send"]);
}

#[tokio::test(start_paused = true)]
async fn two_migrations_move_each_saga_once() {
    let world = World::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(waiting(&world).await);
    }
    let new = |_| executor(&world, approval(&world, 2, ("reserve", "approved", "send")));
    let [one, two] = [1, 2].map(new);
    let (one, two) = tokio::join!(one.migrate(1, rename), two.migrate(1, rename));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.needs_migration.is_empty() && two.needs_migration.is_empty());
    let mut moved: Vec<SagaId> = one.moved.into_iter().chain(two.moved).collect();
    moved.sort();
    ids.sort();
    assert_eq!(moved, ids);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_saga_moves_and_is_retried_in_the_new_version() {
    let world = World::new();
    let mut before = Definition::builder("order", 1);
    let broken = service_fn(async |_: Call<u32>| Err::<u64, BoxError>("no answer".into()));
    before.step("charge").kind(Kind::Pivot).action((), broken, |cents: &u32, ()| *cents).add();
    let old = executor(&world, before);
    let id = old.run_to_end(7).await.unwrap().id();
    let mut after = Definition::builder("order", 2);
    world.step_of(after.step("charge").kind(Kind::Pivot), "charge", Duration::ZERO, false);
    let new = executor(&world, after);
    // Its worker is alive: a stuck saga needs none.
    assert_eq!(new.migrate(1, |_| Ok(())).await.unwrap().moved, [id]);
    assert_eq!(new.state(id).await.unwrap().unwrap().status, Status::Stuck);
    assert!(matches!(old.retry(id).await, Err(SagaError::OtherVersion { version: 2, .. })));
    assert_eq!(new.retry(id).await.unwrap().await.unwrap().status(), Status::Completed);
}

/// The log of a large definition holds a digest, and no names.
#[tokio::test(start_paused = true)]
async fn a_function_names_the_steps_of_a_large_definition() {
    let world = World::new();
    let old = executor(&world, approval(&world, 1, (LONG, "approved", "ship")));
    let id = world.waiting(&old).await;
    let new = executor(&world, approval(&world, 2, ("reserve", "approved", "ship")));
    let why = async |function: fn(&mut Log) -> Result<(), BoxError>| {
        new.migrate(1, function).await.unwrap().needs_migration.remove(0).why
    };
    let unknown = "the log does not hold the names of its steps; name them with `steps_were`";
    assert_eq!(why(|_| Ok(())).await, unknown);
    assert_eq!(why(|log| Ok(log.rename("a", "b")?)).await, unknown);
    let few = why(|log| Ok(log.steps_were(["reserve"])?)).await;
    assert_eq!(few, "the steps were at least 2 steps, not \"reserve\"");
    // Nothing but the entries tells the sorts of these steps.
    let other = why(|log| Ok(log.steps_were(["approved", "reserve"])?)).await;
    assert!(other.contains("of another sort"), "{other}");
    let moved = new.migrate(1, |log| Ok(log.steps_were(["reserve", "approved", "ship"])?)).await;
    assert_eq!(moved.unwrap().moved, [id]);
}

#[tokio::test(start_paused = true)]
async fn a_migration_to_the_same_version_is_invalid() {
    let world = World::new();
    let sagas = executor(&world, order(&world));
    let error = sagas.migrate(1, |_| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), buttress::StoreErrorKind::Invalid);
}
