//! Waits that end at their time.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_saga_waits_without_a_task_and_goes_on_within_a_second() {
    let world = World::new();
    let sagas = world.executor(order(&world));
    let id = sagas.start(7).await.unwrap().id();
    let tree = world.until(&sagas, id, Status::Waiting).await;
    let statuses: Vec<StepStatus> = tree.steps.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [StepStatus::Done, StepStatus::Waiting, StepStatus::Pending]);
    let left = tree.until.unwrap() - world.start;
    assert!(left >= HOUR && left < HOUR + SECOND, "{left:?}");
    assert!(tree.to_string().contains("wait: waiting, after a"), "{tree}");
    assert!(tree.to_string().contains(": waiting\n"), "{tree}");
    assert_eq!(sagas.stats().active, 0);
    let found = sagas.search(Search::new().status(Status::Waiting).at_step("wait")).await.unwrap();
    assert_eq!(found.sagas, [tree]);
    let listed = sagas.list(Page::first(9).status(Status::Waiting)).await.unwrap();
    assert_eq!((listed.len(), listed[0].due_at), (1, found.sagas[0].until));

    let tree = world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (3600, "b")]);
    assert_eq!(tree.until, None);
    let history = &tree.steps[1].history;
    let waited = history.ended.unwrap() - history.started.unwrap();
    assert!(waited >= HOUR && waited < HOUR + SECOND, "{waited:?}");
    assert_eq!((history.attempts, tree.steps[1].note.as_deref()), (0, None));
    let stats = sagas.stats();
    assert_eq!((stats.started, stats.woken, stats.resumed, stats.completed), (1, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_for_the_end_of_a_saga_that_waits() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    let takes = world.step(&mut saga, "a", 30 * MINUTE);
    // Its length depends on an output of the same write.
    let wait = saga
        .step("wait")
        .needs(takes)
        .wait(|input, takes| Duration::from_secs(u64::from(*input) + *takes));
    let seen = Arc::new(Mutex::new(None));
    let see = seen.clone();
    let last = service_fn(async |_: Call<()>| Ok::<(), BoxError>(()));
    saga.step("b")
        .needs((takes, wait))
        .action((), last, move |_, (takes, _waited)| *see.lock().unwrap() = Some(*takes))
        .add();
    let report = world.executor(saga).run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    assert_eq!((report.output(wait).as_deref(), *seen.lock().unwrap()), (Some(&()), Some(1800)));
    let ended = report.history()[1].ended.unwrap() - world.start;
    assert!(ended.as_secs() >= 3607 && ended.as_secs() <= 3608, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_come_first_last_one_after_the_other_and_take_no_time() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.step("first").wait(|_, ()| HOUR);
    saga.step("none").wait(|_, ()| Duration::ZERO);
    world.step(&mut saga, "a", Duration::ZERO);
    saga.step("second").wait(|_, ()| HOUR);
    saga.step("third").wait(|_, ()| HOUR);
    saga.step("past").wait(|_, ()| MINUTE.saturating_sub(HOUR));
    let sagas = world.executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    assert_seen(&world, &[(3600, "a")]);
    let took = world.seconds();
    assert!((10_800..=10_803).contains(&took), "{took}");
    assert_eq!(sagas.stats().woken, 3, "a wait of no time does not end a run");
}

#[tokio::test(start_paused = true)]
async fn a_wait_beside_steps_counts_from_its_start() {
    for (takes, wait) in [(30 * MINUTE, 3 * HOUR), (3 * HOUR, 30 * MINUTE), (HOUR, HOUR)] {
        let world = World::new();
        let mut saga = Definition::builder("order", 1);
        saga.parallel(|saga| {
            world.step(saga, "a", takes);
            saga.step("wait").wait(move |_, ()| wait);
        });
        world.step(&mut saga, "b", Duration::ZERO);
        let sagas = world.executor(saga);
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Completed);
        assert_seen(&world, &[(0, "a"), (10_800.min(takes.max(wait).as_secs()), "b")]);
        assert_eq!(
            sagas.stats().woken,
            u64::from(wait > takes),
            "a run that continues needs no wake"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn two_waits_end_each_at_its_time() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    let (one, _) = saga.parallel(|saga| {
        (saga.step("one").wait(|_, ()| HOUR), saga.step("two").wait(|_, ()| 3 * HOUR))
    });
    world.step_of(saga.step("a").after(one), "a", Duration::ZERO, true);
    let sagas = world.executor(saga);
    let id = sagas.start(7).await.unwrap().id();
    world.clock.sleep(2 * HOUR).await;
    let tree = sagas.state(id).await.unwrap().unwrap();
    let until = tree.until.unwrap() - world.start;
    assert!(until >= 3 * HOUR && until < 3 * HOUR + SECOND, "{until:?}");
    assert_eq!(
        (tree.steps[0].status, tree.steps[1].status),
        (StepStatus::Done, StepStatus::Waiting)
    );
    let tree = world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(3600, "a")]);
    let ended = tree.steps[1].history.ended.unwrap() - world.start;
    assert!(ended >= 3 * HOUR && ended < 3 * HOUR + 2 * SECOND, "{ended:?}");
}

/// An executor keeps nothing of a saga that waits: no task, and no entry of a map.
#[tokio::test(start_paused = true)]
async fn many_sagas_wait_without_a_task() {
    const SAGAS: u128 = 20_000;
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.step("wait").wait(|_, ()| HOUR);
    let sagas = world.executor(saga);
    drop(sagas.start_as(SagaId::new(1 << 100), 7).await.unwrap());
    world.until(&sagas, SagaId::new(1 << 100), Status::Waiting).await;
    world.clock.sleep(SECOND).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for id in 0..SAGAS {
        drop(sagas.start_as(SagaId::new(id), 7).await.unwrap());
    }
    while sagas.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    world.clock.sleep(SECOND).await;
    assert_eq!(tasks(), before);
    let core = &sagas.core;
    assert!(core.active().is_empty() && core.taking().is_empty() && core.left().is_empty());
    assert!(core.active().capacity() < 2_000, "the map of running sagas has grown");
    let last = world.until(&sagas, SagaId::new(SAGAS - 1), Status::Waiting).await;
    let due = last.until.unwrap() - world.start;
    while u128::from(sagas.stats().completed) <= SAGAS {
        assert!(world.clock.unix() - world.start < due + 2 * SECOND, "{:?}", sagas.stats());
        world.clock.sleep(SECOND / 2).await;
    }
    world.clock.sleep(SECOND).await;
    assert_eq!(tasks(), before);
}

/// Sagas that are due and have no room here stay in the store, where other workers can take them.
#[tokio::test(start_paused = true)]
async fn an_executor_takes_no_more_sagas_than_it_has_room_for() {
    const SAGAS: u128 = 100;
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.step("wait").wait(|_, ()| HOUR);
    world.step(&mut saga, "b", 10 * MINUTE);
    let sagas = world.executor_with(saga, config().max_resumed(2));
    for id in 0..SAGAS {
        drop(sagas.start_as(SagaId::new(id), 7).await.unwrap());
    }
    world.until(&sagas, SagaId::new(SAGAS - 1), Status::Waiting).await;
    world.clock.sleep(HOUR + MINUTE).await;
    let waiting = sagas.list(Page::first(200).status(Status::Waiting)).await.unwrap().len();
    assert_eq!((world.seen().len(), waiting), (2, 92), "two run, six are ready");
    while u128::from(sagas.stats().completed) < SAGAS {
        world.clock.sleep(SECOND).await;
        assert!(world.seconds() < 3600 + 51 * 600 + 60, "{:?}", sagas.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn callers_of_waiting_sagas_load_their_logs_once_a_second_whatever_else_ends() {
    let world = World::new();
    let sagas = world.executor(order(&world));
    let mut waiting = Vec::new();
    for id in 0..10 {
        waiting.push(sagas.start_as(SagaId::new(id), 7).await.unwrap());
        world.until(&sagas, SagaId::new(id), Status::Waiting).await;
    }
    // Their first loads are nearer to each other.
    world.clock.sleep(5 * SECOND).await;
    let before = world.store.loads.load(Ordering::SeqCst);
    for _ in 0..100 {
        // It becomes a saga that waits, so a run ends on the executor of the ten.
        drop(sagas.start(7).await.unwrap());
        world.clock.sleep(SECOND / 20).await;
    }
    let loads = world.store.loads.load(Ordering::SeqCst) - before;
    // Each start may add a first load.
    assert!((50..=170).contains(&loads), "{loads} loads for ten callers in five seconds");
    for waits in waiting {
        assert_eq!(waits.await.unwrap().status(), Status::Completed);
    }
    assert!(sagas.core.watched().is_empty());
}
