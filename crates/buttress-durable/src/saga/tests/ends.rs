//! Waits that end early, and waits that cannot begin.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_cancel_undoes_a_saga_that_waits_immediately() {
    let world = World::new();
    let sagas = world.executor(order(&world));
    let execution = sagas.start(7).await.unwrap();
    world.until(&sagas, execution.id(), Status::Waiting).await;
    world.clock.sleep(10 * MINUTE).await;
    let cancelled = world.clock.now();
    assert!(sagas.cancel(execution.id()).await.unwrap());
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_seen(&world, &[(0, "a"), (600, "undo a")]);
    assert_eq!(world.clock.now(), cancelled, "without a wait for the next look");
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("cancelled")));
    assert_eq!(report.steps()[1].1, StepStatus::Pending, "a wait is never undone");
    assert_seen(&world, &[(0, "a"), (600, "undo a")]);
}

/// The process that cancels does not run the saga, and runs no other.
#[tokio::test(start_paused = true)]
async fn a_cancel_by_another_process_ends_a_wait_within_a_second() {
    let world = World::new();
    let (sagas, other) = (world.executor(order(&world)), world.executor(order(&world)));
    let id = world.waiting(&sagas).await;
    world.clock.sleep(10 * MINUTE).await;
    assert!(other.cancel(id).await.unwrap());
    let began = world.clock.now();
    world.until(&sagas, id, Status::Compensated).await;
    assert!(world.clock.now() - began <= SECOND);
    assert_eq!((sagas.stats().woken, other.stats().woken), (1, 0));
}

/// The answer to the write of the wait carries the cancel.
#[tokio::test(start_paused = true)]
async fn a_cancel_before_the_wait_is_written_lets_no_saga_wait() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "a", MINUTE);
    saga.step("wait").wait(|_, ()| HOUR);
    let saga = saga.build().unwrap();
    let sagas = Executor::new(saga.clone(), world.store.clone(), config()).unwrap();
    let execution = sagas.start(7).await.unwrap();
    world.clock.sleep(SECOND).await;
    let other = Executor::new(saga, world.store.clone(), config()).unwrap();
    assert!(other.cancel(execution.id()).await.unwrap());
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("cancelled")));
    assert_seen(&world, &[(0, "a"), (60, "undo a")]);
    assert_eq!(sagas.stats().woken, 0);
}

/// The owner ends with the step that runs beside the wait, and never acts on the cancel.
#[tokio::test(start_paused = true)]
async fn a_cancel_that_its_owner_does_not_know_of_at_its_end_is_not_forgotten() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.parallel(|saga| {
        world.step(saga, "a", MINUTE);
        saga.step("wait").wait(|_, ()| 72 * HOUR);
    });
    let saga = saga.build().unwrap();
    let executor = || Executor::new(saga.clone(), world.store.clone(), config()).unwrap();
    let (sagas, other) = (executor(), executor());
    let id = sagas.start(7).await.unwrap().id();
    world.clock.sleep(SECOND).await;
    assert!(other.cancel(id).await.unwrap());
    sagas.shut_down().await.unwrap();
    // The other one keeps itself alive by recovering.
    other.recover().await.unwrap();
    world.until(&other, id, Status::Compensated).await;
    assert_seen(&world, &[(0, "a"), (60, "undo a")]);
}

/// The next write of the owner records the end of the last step.
#[tokio::test(start_paused = true)]
async fn a_cancel_by_another_process_during_the_last_step_undoes_the_saga() {
    let world = World::new();
    for is_committed in [false, true] {
        let mut saga = Definition::builder("order", 1);
        world.step(&mut saga, "a", SECOND);
        let kind = if is_committed { Kind::Pivot } else { Kind::Compensatable };
        world.step_of(saga.step("b").kind(kind), "b", MINUTE, !is_committed);
        let saga = saga.build().unwrap();
        let executor = || Executor::new(saga.clone(), world.store.clone(), config()).unwrap();
        let (sagas, other) = (executor(), executor());
        let execution = sagas.start(7).await.unwrap();
        world.clock.sleep(2 * SECOND).await;
        assert!(other.cancel(execution.id()).await.unwrap());
        let report = execution.await.unwrap();
        let (status, reason) = match is_committed {
            true => (Status::Completed, None),
            false => (Status::Compensated, Some("cancelled")),
        };
        assert_eq!((report.status(), report.reason()), (status, reason));
    }
    let undone = [(61, "undo b"), (61, "undo a")];
    assert_seen(&world, &[&[(0, "a"), (1, "b")][..], &undone, &[(61, "a"), (62, "b")]].concat());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_saga_ends_its_wait() {
    let world = World::new();
    let sagas = world.executor_with(order(&world), config().deadline(30 * MINUTE));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("deadline passed")));
    assert_seen(&world, &[(0, "a"), (1800, "undo a")]);
}

#[tokio::test(start_paused = true)]
async fn a_saga_past_its_point_of_no_return_waits_its_whole_time() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    world.step_of(saga.step("a").kind(Kind::Pivot), "a", Duration::ZERO, false);
    saga.step("wait").wait(|_, ()| HOUR);
    world.step_of(saga.step("b").kind(Kind::Retryable), "b", Duration::ZERO, false);
    let sagas = world.executor_with(saga, config().deadline(MINUTE));
    let id = world.waiting(&sagas).await;
    for _ in 0..3 {
        assert!(sagas.cancel(id).await.unwrap());
        world.clock.sleep(10 * MINUTE).await;
        assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Waiting);
    }
    assert_eq!(sagas.stats().woken, 3, "once for each cancel, and then the saga waits on");
    world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (3600, "b")]);
}

/// Regression: the write that created such a saga held its end, and its status stayed running.
#[tokio::test(start_paused = true)]
async fn a_saga_that_ends_as_it_begins_has_ended_in_the_store() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.step("wait").wait(|_, ()| Duration::ZERO);
    let sagas = world.executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    let record = world.store.inner.load(report.id()).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_beside_a_wait_unwinds_the_saga() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "a", Duration::ZERO);
    saga.parallel(|saga| {
        saga.step("wait").wait(|_, ()| HOUR);
        let clock = world.clock.clone();
        let fails = service_fn(move |_: Call<u32>| {
            let clock = clock.clone();
            async move {
                clock.sleep(MINUTE).await;
                Err::<u32, BoxError>("no".into())
            }
        });
        saga.step("b").action((), fails, |input: &u32, ()| *input).definite(|_| true).add();
    });
    let report = world.executor(saga).run_to_end(7).await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("b: no")));
    assert_seen(&world, &[(0, "a"), (60, "undo a")]);
}

#[tokio::test(start_paused = true)]
async fn a_length_that_panics_unwinds_the_saga_or_is_for_an_operator() {
    for kind in [Kind::Compensatable, Kind::Pivot] {
        let world = World::new();
        let calls = Arc::new(AtomicU8::new(0));
        let mut saga = Definition::builder("order", 1);
        let has_undo = kind == Kind::Compensatable;
        world.step_of(saga.step("a").kind(kind), "a", Duration::ZERO, has_undo);
        saga.step("wait").wait(move |_, ()| match calls.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("no calendar"),
            _ => HOUR,
        });
        let sagas = world.executor(saga);
        let report = sagas.run_to_end(7).await.unwrap();
        let why = report.reason().unwrap();
        assert!(why.starts_with("wait: finding the length of the wait panicked"), "{why}");
        if has_undo {
            assert_eq!(report.status(), Status::Compensated);
            assert_seen(&world, &[(0, "a"), (0, "undo a")]);
        } else {
            assert_eq!(report.status(), Status::Stuck);
            let report = sagas.retry(report.id()).await.unwrap().await.unwrap();
            assert_eq!(report.status(), Status::Completed);
            assert!(world.seconds() >= 3600);
        }
    }
}

#[test]
fn settings_without_a_meaning_for_a_wait_are_refused() {
    type Step<'b> = StepBuilder<'b, u32, InMemory, ()>;

    fn check(set: fn(Step<'_>) -> Step<'_>) -> String {
        let mut saga = Definition::<u32>::builder("order", 1);
        set(saga.step("wait")).wait(|_, ()| HOUR);
        saga.build().map(drop).unwrap_err().to_string()
    }
    for (setting, error) in [
        ("timeout", check(|step| step.timeout(SECOND))),
        ("undo_timeout", check(|step| step.undo_timeout(SECOND))),
        ("kind", check(|step| step.kind(Kind::Retryable))),
        ("on_crash", check(|step| step.on_crash(OnCrash::Undo))),
        ("hint", check(|step| step.hint(|_| None))),
    ] {
        let wanted = format!("{setting} has no effect, because the step waits; remove it");
        assert!(error.contains(&wanted), "{error}");
    }
    let mut saga = Definition::<u32>::builder("order", 1);
    saga.step("wait").wait(|_, ()| HOUR);
    let saga = saga.build().unwrap();
    assert!(saga.mermaid().contains("s0{{\"wait\"}}"), "{}", saga.mermaid());
    assert_eq!(saga.inner.shape, "wait:w[];");
}
