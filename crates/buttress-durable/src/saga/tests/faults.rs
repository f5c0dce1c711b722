//! Waits across crashes, take-overs and outages.

use super::*;

#[tokio::test(start_paused = true)]
async fn another_worker_wakes_the_saga_of_one_that_shut_down() {
    let world = World::new();
    let (first, second) = (world.executor(order(&world)), world.executor(order(&world)));
    let execution = first.start(7).await.unwrap();
    let id = execution.id();
    world.until(&first, id, Status::Waiting).await;
    world.clock.sleep(MINUTE).await;
    first.shut_down().await.unwrap();
    assert!(matches!(execution.await, Err(SagaError::ShutDown { .. })));
    assert_eq!(second.recover().await.unwrap().resumed, [], "the saga needs no worker yet");
    world.until(&second, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (3600, "b")]);
    assert_eq!((second.stats().woken, second.stats().resumed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_while_all_workers_are_down_ends_at_the_first_recovery() {
    let world = World::new();
    let first = world.executor(order(&world));
    let id = world.waiting(&first).await;
    first.shut_down().await.unwrap();
    drop(first);
    world.clock.sleep(50 * HOUR).await;
    let second = world.executor(order(&world));
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    world.until(&second, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (180_000, "b")]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_before_it_writes_the_wait_is_replaced_and_the_wait_begins_then() {
    let world = World::new();
    let first = world.executor(order_taking(&world, MINUTE));
    let id = first.start(7).await.unwrap().id();
    world.store.set(Fault::DiesBeforeWait);
    world.clock.sleep(2 * MINUTE).await;
    let there = world.of_another_process();
    let second = there.executor(order_taking(&there, Duration::ZERO));
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    world.until(&second, id, Status::Completed).await;
    // The end of the first step was in the same write, so it runs again.
    assert_seen(&world, &[(0, "a"), (120, "a"), (3720, "b")]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_after_it_wrote_the_wait_needs_no_replacement() {
    let world = World::new();
    let first = world.executor(order_taking(&world, MINUTE));
    let id = first.start(7).await.unwrap().id();
    world.store.set(Fault::DiesAfterWait);
    world.clock.sleep(2 * MINUTE).await;
    let there = world.of_another_process();
    let second = there.executor(order_taking(&there, MINUTE));
    assert_eq!(second.recover().await.unwrap().resumed, []);
    world.until(&second, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (3660, "b")]);
    // The first worker comes back, and finds itself fenced.
    world.store.set(Fault::None);
    assert_eq!(first.stats().active, 1);
    while first.stats().active > 0 {
        world.clock.sleep(SECOND).await;
    }
    assert_eq!(first.stats().fenced, 1);
    assert_eq!(world.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_after_it_took_the_saga_is_replaced_and_the_wait_is_over() {
    let world = World::new();
    let first = world.executor(order(&world));
    let id = world.waiting(&first).await;
    world.clock.sleep(HOUR - 2 * SECOND).await;
    world.store.set(Fault::DiesBeforeAppend);
    world.clock.sleep(LEASE + 3 * SECOND).await;
    assert_eq!((first.stats().woken, world.seen().len()), (1, 1));
    let there = world.of_another_process();
    let second = there.executor(order(&there));
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    world.until(&second, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (3611, "b")]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_the_write_of_a_wait_changes_nothing() {
    let world = World::new();
    let sagas = world.executor(order(&world));
    world.store.set(Fault::LosesAnswer);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    assert_seen(&world, &[(0, "a"), (3600, "b")]);
    assert_eq!((sagas.stats().store_failed, sagas.stats().woken), (1, 1));
}

/// The lease lapses during the wait: the worker takes no saga before it has renewed the lease.
#[tokio::test(start_paused = true)]
async fn a_worker_without_a_lease_wakes_no_saga() {
    let world = World::new();
    let sagas = world.executor(order(&world));
    let id = world.waiting(&sagas).await;
    world.store.set(Fault::NoRenewals);
    world.clock.sleep(2 * HOUR).await;
    assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Waiting);
    world.store.set(Fault::None);
    world.until(&sagas, id, Status::Completed).await;
    assert_eq!(names(&world.seen()), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_the_end_of_a_wait_delays_it_and_is_over_without_a_recovery() {
    let world = World::new();
    let sagas = world.executor(order(&world));
    let id = world.waiting(&sagas).await;
    world.store.set(Fault::NoLooks);
    world.clock.sleep(HOUR + MINUTE).await;
    assert!(sagas.stats().store_failed > 1);
    assert_eq!(sagas.stats().woken, 0);
    world.store.set(Fault::None);
    let back = world.clock.now();
    world.until(&sagas, id, Status::Completed).await;
    assert!(world.clock.now() - back <= MINUTE);
}

/// Two workers look for the same sagas, and each saga continues once.
#[tokio::test(start_paused = true)]
async fn two_workers_wake_each_saga_once() {
    let world = World::new();
    let (first, second) = (world.executor(order(&world)), world.executor(order(&world)));
    second.recover().await.unwrap();
    let ids: Vec<SagaId> = (1..=50).map(SagaId::new).collect();
    for id in &ids {
        drop(first.start_as(*id, 7).await.unwrap());
    }
    for id in ids {
        world.until(&first, id, Status::Completed).await;
    }
    assert_eq!(first.stats().woken + second.stats().woken, 50);
    let calls = world.seen().iter().filter(|(_, name)| name == "b").count();
    assert_eq!(calls, 50);
}

/// A step beside the wait is in progress when the worker dies: the rest of the wait counts.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_wait_beside_a_step_is_waited_for_after_a_crash() {
    let world = World::new();
    let saga = |world: &World| {
        let mut saga = Definition::builder("order", 1);
        saga.parallel(|saga| {
            world.step(saga, "a", 30 * MINUTE);
            saga.step("wait").wait(|_, ()| HOUR);
        });
        world.step(&mut saga, "b", Duration::ZERO);
        saga
    };
    let first = world.executor(saga(&world));
    let id = first.start(7).await.unwrap().id();
    world.clock.sleep(20 * MINUTE).await;
    world.store.set(Fault::DiesBeforeAppend);
    world.clock.sleep(LEASE + SECOND).await;
    let there = world.of_another_process();
    let second = there.executor(saga(&there));
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    let tree = world.until(&second, id, Status::Waiting).await;
    let until = tree.until.unwrap() - world.start;
    assert!(until >= HOUR && until < HOUR + SECOND, "{until:?}");
    world.until(&second, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (1211, "a"), (3600, "b")]);
}

/// A store of a user's that implements only the required methods, and says whether it keeps waits.
struct Plain(MemoryStore, bool);

impl Store<Payload> for Plain {
    fn keeps_waits(&self) -> bool {
        self.1
    }

    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        self.0.renew_worker(worker, lease).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        self.0.release_worker(worker).await
    }

    async fn create(&self, saga: NewSaga<Payload>) -> Answer<()> {
        self.0.create(saga).await
    }

    async fn append(&self, append: Append<Payload>) -> Answer<Appended> {
        self.0.append(append).await
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Payload>> {
        self.0.take_abandoned(sagas).await
    }

    async fn take_saga(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<Payload>>> {
        self.0.take_saga(worker, saga).await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<Payload>>> {
        self.0.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        self.0.request_cancel(saga).await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        self.0.list(page).await
    }

    async fn purge_sagas(&self, name: Option<&str>, age: Duration, limit: usize) -> Answer<usize> {
        self.0.purge_sagas(name, age, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_no_waits_is_refused_for_a_definition_with_one() {
    let world = World::new();
    let store = || Plain(world.store.inner.clone(), false);
    let refused = Executor::new(order(&world).build().unwrap(), store(), config()).unwrap_err();
    let wanted = "a store that keeps waiting sagas, for a definition with a step that waits";
    assert!(refused.to_string().contains(wanted), "{refused}");
    let boxed = BoxStore::new(store());
    assert!(Executor::new(order(&world).build().unwrap(), boxed, config()).is_err());
    let boxed = BoxStore::new(world.store.clone());
    let sagas = Executor::new(order(&world).build().unwrap(), boxed, config()).unwrap();
    assert_eq!(sagas.run_to_end(7).await.unwrap().status(), Status::Completed);
    let mut without = Definition::builder("other", 1);
    world.step(&mut without, "c", Duration::ZERO);
    let sagas = Executor::new(without.build().unwrap(), store(), config()).unwrap();
    assert_eq!(sagas.run_to_end(7).await.unwrap().status(), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_no_signals_is_refused_for_a_definition_with_one() {
    let world = World::new();
    let order = || super::signals::approval(&world, Duration::ZERO).build().unwrap();
    let store = || Plain(world.store.inner.clone(), true);
    let refused = Executor::new(order(), store(), config()).unwrap_err();
    let wanted = "a store that keeps signals, for a definition with a step that waits for one";
    assert!(refused.to_string().contains(wanted), "{refused}");
    assert!(Executor::new(order(), BoxStore::new(store()), config()).is_err());
    let id = SagaId::new(1);
    let payload = buttress::Codec::encode(&InMemory, &Arc::new(7_u32)).unwrap();
    let signal = NewSignal::new(id, ("order", 1), "approved", SignalId::new(2), payload);
    let error = store().signal(signal).await.unwrap_err();
    assert_eq!(error.kind(), buttress::StoreErrorKind::Invalid);
    assert!(error.to_string().contains("the store keeps no signals"), "{error}");
    assert_eq!(store().signals(id).await.unwrap().len(), 0);
    let boxed = BoxStore::new(world.store.clone());
    let sagas = Executor::new(order(), boxed, config()).unwrap();
    let execution = sagas.start(7).await.unwrap();
    let sent = sagas.signal(execution.id(), "approved", 7_u32, SignalId::new(1)).await;
    assert_eq!(sent.unwrap(), Signalled::Delivered);
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
}

/// The step fails after the executor has woken the saga for the shutdown, and nothing else wakes it.
#[tokio::test(start_paused = true)]
async fn a_step_that_fails_during_a_shutdown_does_not_hold_it_up() {
    let world = World::new();
    let clock = world.clock.clone();
    let charge = service_fn(move |_: Call<u32>| {
        let clock = clock.clone();
        async move {
            clock.sleep(MINUTE).await;
            Err::<u64, BoxError>("no answer".into())
        }
    });
    let mut saga = Definition::builder("order", 1);
    saga.step("charge").kind(Kind::Pivot).action((), charge, |order: &u32, ()| *order).add();
    let sagas = world.executor(saga);
    let execution = sagas.start(7).await.unwrap();
    world.clock.sleep(SECOND).await;
    tokio::select! {
        ended = sagas.shut_down() => ended.unwrap(),
        () = world.clock.sleep(HOUR) => panic!("the shutdown does not end with the step"),
    }
    assert!(matches!(execution.await, Err(SagaError::ShutDown { .. })));
}
