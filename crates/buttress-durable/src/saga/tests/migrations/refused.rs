//! Migrations that change nothing, and say why.

use super::*;

/// Moves the only saga of version 1 to the executor, and returns why it stays. Asserts that nothing has changed.
async fn why<I: Send + Sync + 'static>(
    world: &World,
    new: &Executor<I, InMemory, MemoryStore>,
    id: SagaId,
    function: impl FnMut(&mut Log) -> Result<(), BoxError> + Send,
) -> String
where
    InMemory: buttress::Codec<I>,
{
    let before = world.store.inner.load(id).await.unwrap().unwrap();
    let mut migration = new.migrate(1, function).await.unwrap();
    assert!(migration.moved.is_empty() && migration.busy.is_empty(), "{migration:?}");
    let NeedsMigration { saga, from, to, why } = migration.needs_migration.remove(0);
    assert_eq!((saga, from, to), (id, 1, new.definition().version()));
    let after = world.store.inner.load(id).await.unwrap().unwrap();
    assert_eq!(
        (before.epoch, before.version, before.times),
        (after.epoch, after.version, after.times)
    );
    assert_eq!(before.entries.len(), after.entries.len());
    why
}

fn version(world: &World, names: (&'static str, &'static str, &'static str)) -> Plain {
    executor(world, approval(world, 2, names))
}

#[tokio::test(start_paused = true)]
async fn the_reason_names_the_step_and_its_fault() {
    let world = World::new();
    let id = waiting(&world).await;
    let same = version(&world, ("reserve", "approval", "ship"));
    let other = version(&world, ("reserve", "approved", "ship"));
    let nothing = |_: &mut Log| Ok(());
    assert_eq!(
        why(&world, &other, id, nothing).await,
        "the step \"approval\" has begun, and version 2 has no such step; rename or forget it"
    );
    assert_eq!(why(&world, &same, id, |_| Err("not this one".into())).await, "not this one");
    let panic = why(&world, &same, id, |_| panic!("a bug")).await;
    assert_eq!(panic, "the function panicked: a bug");
    assert_eq!(
        why(&world, &same, id, |log| Ok(log.rename("approved", "x")?)).await,
        "the log has no step \"approved\"; it has \"reserve\", \"approval\", \"ship\""
    );
    assert_eq!(
        why(&world, &same, id, |log| Ok(log.steps_were(["reserve", "ship"])?)).await,
        "the steps were \"reserve\", \"approval\", \"ship\", not \"reserve\", \"ship\""
    );
    assert_eq!(
        why(&world, &same, id, |log| Ok(log.set_output("approval", 7_u32)?)).await,
        "the step \"approval\" has no output in the log"
    );
    assert_eq!(
        why(&world, &same, id, |log| Ok(log.done("reserve", 7_u64)?)).await,
        "the step \"reserve\" cannot be marked as done, because it has begun"
    );
    assert_eq!(
        why(&world, &same, id, |log| Ok(log.done("pay", 7_u64)?)).await,
        "version 2 has no step \"pay\" that could be done"
    );
    let input = why(&world, &same, id, |log| Ok(log.set_input("seven".to_owned())?)).await;
    assert!(input.starts_with("version 2 cannot read the input: "), "{input}");
    let output = why(&world, &same, id, |log| Ok(log.set_output("reserve", 7_u8)?)).await;
    assert!(
        output.starts_with("version 2 cannot read the output of the step \"reserve\": "),
        "{output}"
    );
    let wrong = why(&world, &same, id, |log| Ok(log.input::<String>().map(drop)?)).await;
    assert!(wrong.starts_with("input: "), "{wrong}");
    let sort = why(&world, &same, id, |log| {
        log.forget("reserve")?;
        Ok(log.rename("approval", "reserve")?)
    });
    assert!(sort.await.starts_with("the step \"reserve\" has begun, and was of another sort"));
    // The new version has a step before the approval.
    let mut saga = Definition::builder("order", 2);
    world.step(&mut saga, "reserve", Duration::ZERO);
    world.step(&mut saga, "check", Duration::ZERO);
    saga.step("approval").signal::<u32>(|_, ()| None);
    let more = executor(&world, saga);
    assert_eq!(
        why(&world, &more, id, nothing).await,
        "the step \"approval\" has begun, and the step \"check\" before it in version 2 is not done"
    );
}

#[tokio::test(start_paused = true)]
async fn two_steps_cannot_become_one() {
    let world = World::new();
    let mut before = Definition::builder("order", 1);
    world.step(&mut before, "a", Duration::ZERO);
    world.step(&mut before, "b", Duration::ZERO);
    before.step("wait").wait(|_, ()| DAY);
    let old = executor(&world, before);
    let id = world.waiting(&old).await;
    let mut after = Definition::builder("order", 2);
    world.step(&mut after, "a", Duration::ZERO);
    after.step("wait").wait(|_, ()| DAY);
    let new = executor(&world, after);
    let two = why(&world, &new, id, |log| Ok(log.rename("b", "a")?)).await;
    assert_eq!(two, "two steps of its log are the step \"a\"");
    // A wait for a time does not become a wait for a signal.
    let mut after = Definition::builder("order", 3);
    world.step(&mut after, "a", Duration::ZERO);
    world.step(&mut after, "b", Duration::ZERO);
    after.step("wait").signal::<()>(|_, ()| None);
    let new = executor(&world, after);
    let sort = why(&world, &new, id, |_| Ok(())).await;
    assert!(sort.starts_with("the step \"wait\" has begun, and was of another sort"), "{sort}");
}

#[tokio::test(start_paused = true)]
async fn an_undo_in_progress_needs_an_undo_and_its_name() {
    let world = World::new();
    let mut before = Definition::builder("order", 1);
    let done = || service_fn(async |_: Call<u32>| Ok::<u64, BoxError>(0));
    let broken = || service_fn(async |_: Call<u32>| Err::<u64, BoxError>("no answer".into()));
    let request = |cents: &u32, ()| *cents;
    let undone = |cents: &u32, (), _: Option<Arc<u64>>| *cents;
    before.step("a").action((), done(), request).undo((), broken(), undone).add();
    before.step("b").action((), broken(), request).add();
    let old = executor(&world, before);
    let id = old.run_to_end(7).await.unwrap().id();
    assert_eq!(old.state(id).await.unwrap().unwrap().status, Status::Stuck);
    let mut after = Definition::builder("order", 2);
    after.step("a").action((), done(), request).add();
    after.step("b").action((), done(), request).add();
    let none = executor(&world, after);
    assert_eq!(
        why(&world, &none, id, |_| Ok(())).await,
        "the step \"a\" is being undone, and has no undo in version 2"
    );
    let mut after = Definition::builder("order", 2);
    after.step("a2").action((), done(), request).undo((), done(), undone).add();
    after.step("b").action((), done(), request).add();
    let renamed = executor(&world, after);
    assert_eq!(
        why(&world, &renamed, id, |log| Ok(log.rename("a", "a2")?)).await,
        "the step \"a\" cannot be renamed: its call may be repeated, and its key contains the name"
    );
    assert_eq!(
        why(&world, &renamed, id, |log| Ok(log.forget("a")?)).await,
        "the saga is stuck, and would be unwinding in version 2"
    );
    // A saga that unwinds cannot be past the point of no return.
    let mut after = Definition::builder("order", 2);
    after.step("a").action((), done(), request).undo((), done(), undone).add();
    after.step("b").kind(Kind::Retryable).action((), done(), request).add();
    let past = executor(&world, after);
    assert_eq!(
        why(&world, &past, id, |_| Ok(())).await,
        "the saga unwinds, and is past the point of no return of version 2"
    );
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_has_come_keeps_its_name_and_its_type() {
    let world = World::new();
    let mut before = Definition::builder("order", 1);
    before.step("wait").wait(|_, ()| DAY);
    before.step("approval").signal::<u32>(|_, ()| None);
    let old = executor(&world, before);
    let id = world.waiting(&old).await;
    old.signal(id, "approval", 1_u32, SignalId::new(1)).await.unwrap();
    world.clock.sleep(SECOND).await;
    world.until(&old, id, Status::Waiting).await;
    let mut after = Definition::<u32>::builder("order", 2);
    after.step("wait").wait(|_, ()| DAY);
    after.step("approved").signal::<u32>(|_, ()| None);
    let renamed = executor(&world, after);
    assert_eq!(
        why(&world, &renamed, id, rename).await,
        "the signal \"approval\" has come already, and the step \"approved\" does not take it under the old name; run version 1 with `also_run`"
    );
    let mut after = Definition::<u32>::builder("order", 2);
    after.step("wait").wait(|_, ()| DAY);
    after.step("approval").signal::<String>(|_, ()| None);
    let typed = executor(&world, after);
    let output = why(&world, &typed, id, |_| Ok(())).await;
    assert!(
        output.starts_with("version 2 cannot read the output of the step \"approval\""),
        "{output}"
    );
}
