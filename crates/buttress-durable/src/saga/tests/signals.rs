//! Steps that wait for a signal, under a paused clock.

use super::*;
use crate::outbox;

pub(super) const APPROVED: &str = "approved";

/// A step, the wait of up to an hour for a signal, and a last step that sees its payload.
pub(super) fn approval(world: &World, takes: Duration) -> Builder<u32> {
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "a", takes);
    let approved = saga.step(APPROVED).signal::<u32>(|_, ()| Some(HOUR));
    last(world, &mut saga, approved);
    saga
}

/// Adds a step that notes the payload of a signal.
pub(super) fn last(world: &World, saga: &mut Builder<u32>, approved: StepHandle<u32>) {
    let world = world.clone();
    let action = service_fn(move |call: Call<u32>| {
        world.note(&format!("b {}", call.into_request()));
        std::future::ready(Ok::<(), BoxError>(()))
    });
    saga.step("b").needs(approved).action((), action, |_, approved| *approved).add();
}

pub(super) async fn send(sagas: &Sagas, saga: SagaId, payload: u32, id: u128) -> Signalled {
    sagas.signal(saga, APPROVED, payload, SignalId::new(id)).await.unwrap()
}

pub(super) async fn error(sagas: &Sagas, saga: SagaId, name: &str) -> SagaError {
    sagas.signal(saga, name, 7_u32, SignalId::new(99)).await.unwrap_err()
}

/// Lets every task run that needs no time.
pub(super) async fn without_time() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_continues_a_saga_that_waits_and_its_payload_is_the_output() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let id = sagas.start(7).await.unwrap().id();
    let tree = world.until(&sagas, id, Status::Waiting).await;
    assert_eq!((&tree.signals[..], sagas.stats().active), (&[APPROVED.into()][..], 0));
    let left = tree.until.unwrap() - world.start;
    assert!(left >= HOUR && left < HOUR + SECOND, "{left:?}");
    assert!(tree.to_string().contains("approved: waiting for its signal, after a"), "{tree}");
    // Between two looks for sagas that are due.
    world.clock.sleep(MINUTE + SECOND * 137 / 1000).await;
    let sent = world.clock.now();
    assert_eq!(send(&sagas, id, 42, 1).await, Signalled::Delivered);
    without_time().await;
    let tree = sagas.state(id).await.unwrap().unwrap();
    assert_eq!((tree.status, tree.until), (Status::Completed, None), "without a poll");
    assert_eq!((world.clock.now(), tree.signals.len()), (sent, 0));
    assert_seen(&world, &[(0, "a"), (60, "b 42")]);
    let history = &tree.steps[1].history;
    let waited = history.ended.unwrap() - history.started.unwrap();
    assert!(waited >= MINUTE && waited < MINUTE + SECOND, "{waited:?}");
    let stats = sagas.stats();
    assert_eq!((stats.woken, stats.signalled, stats.completed), (1, 1, 1));
    let log = world.store.load(id).await.unwrap().unwrap();
    assert_eq!((log.signals, log.entries.len()), (1, 7), "{:?}", log.entries);
}

#[tokio::test(start_paused = true)]
async fn an_early_signal_is_kept_and_its_step_does_not_wait() {
    let world = World::new();
    let sagas = world.executor(approval(&world, 30 * MINUTE));
    let id = sagas.start(7).await.unwrap().id();
    world.clock.sleep(MINUTE).await;
    assert_eq!(send(&sagas, id, 42, 1).await, Signalled::Delivered);
    world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (1800, "b 42")]);
    assert_eq!((sagas.stats().woken, sagas.stats().signalled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_signal_during_another_wait_changes_nothing_before_its_step() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.step("cool off").wait(|_, ()| HOUR);
    saga.step("paid").signal::<u64>(|_, ()| Some(HOUR));
    let approved = saga.step(APPROVED).signal::<u32>(|_, ()| Some(HOUR));
    last(&world, &mut saga, approved);
    let sagas = world.executor(saga);
    let id = sagas.start(7).await.unwrap().id();
    let tree = world.until(&sagas, id, Status::Waiting).await;
    assert_eq!(tree.signals, []);
    send(&sagas, id, 42, 1).await;
    world.clock.sleep(2 * MINUTE).await;
    let tree = world.until(&sagas, id, Status::Waiting).await;
    let until = tree.until.unwrap() - world.start;
    assert!(until >= HOUR && until < HOUR + SECOND, "{until:?}");
    world.clock.sleep(HOUR).await;
    let tree = world.until(&sagas, id, Status::Waiting).await;
    assert_eq!(tree.signals, [buttress::Name::from("paid")]);
    sagas.signal(id, "paid", 990_u64, SignalId::new(1)).await.unwrap();
    world.until(&sagas, id, Status::Completed).await;
    assert_eq!((names(&world.seen()), sagas.stats().signalled), (vec!["b 42"], 2));
}

#[tokio::test(start_paused = true)]
async fn only_the_first_signal_of_a_name_counts() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let there = world.executor(approval(&world, Duration::ZERO));
    let id = sagas.start(7).await.unwrap().id();
    assert_eq!(send(&sagas, id, 1, 1).await, Signalled::Delivered);
    assert_eq!(send(&there, id, 2, 1).await, Signalled::Duplicate);
    assert_eq!(send(&there, id, 3, 2).await, Signalled::Later);
    world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (0, "b 1")]);
    assert_eq!(send(&there, id, 4, 1).await, Signalled::Duplicate, "after the end, too");
    assert!(matches!(error(&there, id, APPROVED).await, SagaError::SignalTooLate { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_no_saga_takes_is_refused_with_its_reason() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let id = sagas.start(7).await.unwrap().id();
    let says = async |saga, name: &str| error(&sagas, saga, name).await.to_string();
    let none = SagaId::new(9);
    assert_eq!(
        says(none, APPROVED).await,
        format!("saga {none}: there is no such saga in the store of this executor; check the id")
    );
    for name in ["aproved", "a"] {
        assert_eq!(
            says(id, name).await,
            format!(
                "saga {id}: no step waits for the signal \"{name}\"; the definition has \"approved\""
            )
        );
    }
    let text = sagas.signal(id, APPROVED, "yes", SignalId::new(1)).await.unwrap_err();
    assert_eq!(
        text.to_string(),
        format!("saga {id}: the payload of the signal \"approved\" is a u32, not a &str")
    );
    let mut later = Definition::builder("order", 2);
    later.step(APPROVED).signal::<u32>(|_, ()| None);
    let later = error(&world.executor(later), id, APPROVED).await;
    assert_eq!(
        later.to_string(),
        format!(
            "saga {id}: has version 1 of \"order\", and the executor runs version 2; register that version with \
             also_run, or migrate the saga"
        )
    );
    assert!(sagas.cancel(id).await.unwrap());
    world.until(&sagas, id, Status::Compensated).await;
    assert_eq!(
        says(id, APPROVED).await,
        format!("saga {id}: the saga is compensated and takes no signal \"approved\" any more")
    );
    assert_eq!(world.store.load(id).await.unwrap().unwrap().signals, 0);
}

#[tokio::test(start_paused = true)]
async fn without_its_signal_a_saga_unwinds_at_the_limit_with_a_reason() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(report.reason(), Some("approved: no signal within 3600s"));
    assert_seen(&world, &[(0, "a"), (3600, "undo a")]);
    assert_eq!(report.steps()[1].1, StepStatus::Failed);
    assert_eq!(report.history()[1].error.as_deref(), Some("no signal within 3600s"));
    assert_eq!((sagas.stats().signalled, sagas.stats().steps_failed), (0, 1));
}

/// Another signal wakes the saga in the middle of the wait. The reason names the whole limit, not its rest.
#[tokio::test(start_paused = true)]
async fn the_reason_names_the_limit_also_after_another_signal() {
    let world = World::new();
    let mut saga = Definition::builder("order", 1);
    saga.parallel(|saga| {
        saga.step("paid").signal::<u64>(|_, ()| Some(3 * HOUR));
        saga.step(APPROVED).signal::<u32>(|_, ()| Some(HOUR));
    });
    let sagas = world.executor(saga);
    let execution = sagas.start(7).await.unwrap();
    world.until(&sagas, execution.id(), Status::Waiting).await;
    world.clock.sleep(30 * MINUTE).await;
    sagas.signal(execution.id(), "paid", 990_u64, SignalId::new(1)).await.unwrap();
    let report = execution.await.unwrap();
    assert_eq!(report.reason(), Some("approved: no signal within 3600s"));
    assert_eq!((world.seconds(), sagas.stats().woken), (3600, 2));
}

#[tokio::test(start_paused = true)]
async fn an_optional_signal_is_none_after_the_limit() {
    for sent in [false, true] {
        let world = World::new();
        let mut saga = Definition::builder("order", 1);
        let approved = saga.step(APPROVED).signal_or_none::<u32>(|_, ()| Some(HOUR));
        let seen = Arc::new(Mutex::new(None));
        let see = seen.clone();
        let service = service_fn(async |_: Call<()>| Ok::<(), BoxError>(()));
        saga.step("b")
            .needs(approved)
            .action((), service, move |_, by| *see.lock().unwrap() = Some(by.as_deref().copied()))
            .add();
        let sagas = world.executor(saga);
        let execution = sagas.start(7).await.unwrap();
        world.until(&sagas, execution.id(), Status::Waiting).await;
        if sent {
            send(&sagas, execution.id(), 42, 1).await;
        }
        let report = execution.await.unwrap();
        assert_eq!(report.status(), Status::Completed);
        assert_eq!(*seen.lock().unwrap(), Some(sent.then_some(42)));
        assert_eq!(report.output(approved).unwrap().as_deref(), sent.then_some(&42));
        let took = world.seconds();
        assert!(if sent { took <= 1 } else { (3600..=3601).contains(&took) }, "{took}");
        let log = world.store.load(report.id()).await.unwrap().unwrap();
        assert_eq!(log.status, Status::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_a_limit_ends_with_the_signal_or_the_deadline_of_the_saga() {
    for sent in [false, true] {
        let world = World::new();
        let mut saga = Definition::builder("order", 1);
        world.step(&mut saga, "a", Duration::ZERO);
        let approved = saga.step(APPROVED).signal::<u32>(|_, ()| None);
        last(&world, &mut saga, approved);
        let config = if sent { config() } else { config().deadline(50 * HOUR) };
        let sagas = world.executor_with(saga, config);
        let id = sagas.start(7).await.unwrap().id();
        let tree = world.until(&sagas, id, Status::Waiting).await;
        assert_eq!(tree.until.is_none(), sent, "{:?}", tree.until);
        world.clock.sleep(49 * HOUR).await;
        if sent {
            send(&sagas, id, 42, 1).await;
            world.until(&sagas, id, Status::Completed).await;
            assert_seen(&world, &[(0, "a"), (176_400, "b 42")]);
        } else {
            let tree = world.until(&sagas, id, Status::Compensated).await;
            assert_eq!(tree.reason.as_deref(), Some("deadline passed"));
            assert_seen(&world, &[(0, "a"), (180_000, "undo a")]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_wait_and_signals_come_too_late() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    world.until(&sagas, id, Status::Waiting).await;
    world.clock.sleep(MINUTE).await;
    assert!(sagas.cancel(id).await.unwrap());
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("cancelled")));
    assert_seen(&world, &[(0, "a"), (60, "undo a")]);
    assert!(matches!(error(&sagas, id, APPROVED).await, SagaError::SignalTooLate { .. }));
}

#[tokio::test(start_paused = true)]
async fn past_the_point_of_no_return_an_operator_retries_after_the_signal() {
    let world = World::new();
    let done = service_fn(async |_: Call<u32>| Ok::<(), BoxError>(()));
    let mut saga = Definition::builder("order", 1);
    saga.step("charge").kind(Kind::Pivot).action((), done, |input: &u32, ()| *input).add();
    saga.step(APPROVED).signal::<u32>(|_, ()| Some(HOUR));
    let sagas = world.executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    assert_eq!(report.reason(), Some("approved: no signal within 3600s"));
    assert_eq!(send(&sagas, report.id(), 42, 1).await, Signalled::Delivered);
    let report = sagas.retry(report.id()).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    assert_eq!(world.seconds(), 3600, "it does not wait again");
}

#[tokio::test(start_paused = true)]
async fn a_step_beside_the_wait_does_not_hold_the_signal_up() {
    for from_here in [true, false] {
        let world = World::new();
        let make = || {
            let mut saga = Definition::builder("order", 1);
            let (_, approved) = saga.parallel(|saga| {
                let takes = world.step(saga, "a", 2 * HOUR);
                (takes, saga.step(APPROVED).signal::<u32>(|_, ()| Some(5 * HOUR)))
            });
            let (note, done) =
                (world.clone(), service_fn(async |_: Call<()>| Ok::<(), BoxError>(())));
            saga.step("b")
                .needs(approved)
                .after(approved)
                .action((), done, move |_, by| note.note(&format!("b {by}")))
                .add();
            saga
        };
        let (here, there) = (world.executor(make()), world.executor(make()));
        let id = here.start(7).await.unwrap().id();
        world.clock.sleep(MINUTE).await;
        assert_eq!(here.state(id).await.unwrap().unwrap().status, Status::Running);
        send(if from_here { &here } else { &there }, id, 42, 1).await;
        world.until(&here, id, Status::Completed).await;
        assert_seen(&world, &[(0, "a"), (60, "b 42")]);
        assert_eq!((here.stats().woken, here.stats().signalled), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_in_a_transaction_is_there_if_it_commits() {
    let world = World::new();
    let store = MemoryStore::new(world.clock.clone());
    let saga = approval(&world, Duration::ZERO).build().unwrap();
    let sagas = Executor::new(saga, store.clone(), config()).unwrap();
    let database = outbox::MemoryStore::new(world.clock.clone());
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    world.clock.sleep(MINUTE).await;

    let mut tx = database.begin();
    let sent = sagas.signal_in(&mut tx, id, APPROVED, 1_u32, SignalId::new(1)).await.unwrap();
    assert_eq!(sent.answer(), Signalled::Delivered);
    let again = sagas.signal_in(&mut tx, id, APPROVED, 1_u32, SignalId::new(1)).await.unwrap();
    assert_eq!(again.answer(), Signalled::Duplicate, "of this transaction");
    let beside = sagas.signal(id, APPROVED, 2_u32, SignalId::new(2)).await.unwrap_err();
    assert!(beside.to_string().contains("can be repeated"), "{beside}");
    drop(tx);
    world.clock.sleep(MINUTE).await;
    assert_eq!(store.load(id).await.unwrap().unwrap().signals, 0, "rolled back");

    let mut tx = database.begin();
    let sent = sagas.signal_in(&mut tx, id, APPROVED, 3_u32, SignalId::new(1)).await.unwrap();
    assert_eq!((sent.answer(), sagas.stats().signalled), (Signalled::Delivered, 0));
    tx.commit();
    sent.committed();
    without_time().await;
    assert_seen(&world, &[(0, "a"), (120, "b 3")]);
    assert_eq!(execution.await.unwrap().status(), Status::Completed);

    // One transaction starts a saga and signals it.
    let mut tx = database.begin();
    let id = SagaId::new(2);
    let started = sagas.start_in(&mut tx, id, 7).await.unwrap();
    let sent = sagas.signal_in(&mut tx, id, APPROVED, 4_u32, SignalId::new(1)).await.unwrap();
    assert_eq!(sent.answer(), Signalled::Delivered);
    tx.commit();
    assert_eq!(started.committed().await.unwrap().status(), Status::Completed);
    assert_eq!(names(&world.seen()).last(), Some(&"b 4"));
}
