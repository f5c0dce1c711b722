//! Signals at the instant of another event, and across crashes and outages.

use proptest::prelude::*;

use super::signals::{APPROVED, approval, error, last, send};
use super::*;

/// Makes the signal come right before the append number `appends` that depends on signals.
fn race(world: &World, saga: SagaId, appends: u32) {
    let payload = buttress::Codec::encode(&InMemory, &Arc::new(42_u32)).unwrap();
    let signal = NewSignal::new(saga, ("order", 1), APPROVED, SignalId::new(1), payload);
    *world.store.racing.lock().unwrap() = Some((appends, signal));
}

async fn kinds(world: &World, id: SagaId) -> Vec<EntryKind> {
    let record = world.store.load(id).await.unwrap().unwrap();
    record.entries.iter().map(Entry::kind).collect()
}

fn count(kinds: &[EntryKind], kind: EntryKind) -> usize {
    kinds.iter().filter(|one| **one == kind).count()
}

#[tokio::test(start_paused = true)]
async fn a_signal_while_the_saga_goes_to_wait_is_taken_without_a_wait() {
    let world = World::new();
    let sagas = world.executor(approval(&world, MINUTE));
    let id = sagas.start(7).await.unwrap().id();
    race(&world, id, 0);
    world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (60, "b 42")]);
    assert_eq!((sagas.stats().woken, sagas.stats().signalled), (0, 1));
    assert_eq!(count(&kinds(&world, id).await, EntryKind::Signalled), 1);
}

#[tokio::test(start_paused = true)]
async fn a_signal_right_before_the_end_of_the_wait_is_recorded_counts() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let id = world.waiting(&sagas).await;
    race(&world, id, 0);
    world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (3600, "b 42")]);
    let kinds = kinds(&world, id).await;
    assert_eq!(count(&kinds, EntryKind::Signalled), 1);
    assert_eq!(count(&kinds, EntryKind::ActionFailed) + count(&kinds, EntryKind::Unwinding), 0);
}

#[tokio::test(start_paused = true)]
async fn a_signal_right_after_the_end_of_the_wait_is_refused() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let id = world.waiting(&sagas).await;
    while count(&kinds(&world, id).await, EntryKind::ActionFailed) == 0 {
        world.clock.sleep(SECOND / 100).await;
    }
    assert!(matches!(error(&sagas, id, APPROVED).await, SagaError::SignalTooLate { .. }));
    world.until(&sagas, id, Status::Compensated).await;
    assert_eq!(count(&kinds(&world, id).await, EntryKind::Signalled), 0);
}

#[tokio::test(start_paused = true)]
async fn one_signal_comes_and_the_other_one_does_not() {
    for racing in [false, true] {
        let world = World::new();
        let mut saga = Definition::builder("order", 1);
        let (approved, _) = saga.parallel(|saga| {
            let approved = saga.step(APPROVED).signal::<u32>(|_, ()| Some(HOUR));
            (approved, saga.step("paid").signal_or_none::<u64>(|_, ()| Some(HOUR)))
        });
        last(&world, &mut saga, approved);
        let sagas = world.executor(saga);
        let id = sagas.start(7).await.unwrap().id();
        let tree = world.until(&sagas, id, Status::Waiting).await;
        assert_eq!(tree.signals.len(), 2);
        if racing {
            race(&world, id, 0);
        } else {
            world.clock.sleep(MINUTE).await;
            send(&sagas, id, 42, 1).await;
        }
        let tree = world.until(&sagas, id, Status::Completed).await;
        assert_seen(&world, &[(3600, "b 42")]);
        let until = tree.steps[1].history.ended.unwrap() - world.start;
        assert!(until >= HOUR && until < HOUR + SECOND, "{until:?}");
        let kinds = kinds(&world, id).await;
        assert_eq!(count(&kinds, EntryKind::Signalled), 1);
        assert_eq!(count(&kinds, EntryKind::WaitEnded), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_the_signal_within_its_poll() {
    let world = World::new();
    let (here, there) = (
        world.executor(approval(&world, Duration::ZERO)),
        world.executor(approval(&world, Duration::ZERO)),
    );
    let id = world.waiting(&here).await;
    world.clock.sleep(MINUTE).await;
    let sent = world.clock.now();
    assert_eq!(send(&there, id, 42, 1).await, Signalled::Delivered);
    assert_eq!(there.stats().active, 0, "it runs no sagas");
    world.until(&here, id, Status::Completed).await;
    assert!(world.clock.now() - sent <= SECOND, "{:?}", world.clock.now() - sent);
    assert_eq!(here.stats().signalled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_with_the_signal_is_replaced_and_the_signal_counts_once() {
    let world = World::new();
    let first = world.executor(approval(&world, Duration::ZERO));
    let id = world.waiting(&first).await;
    world.store.set(Fault::DiesBeforeAppend);
    let there = world.of_another_process();
    let second = there.executor(approval(&there, Duration::ZERO));
    send(&first, id, 42, 1).await;
    // The first worker takes the saga, reads the signal, and gets no further.
    while there.store.load(id).await.unwrap().unwrap().status == Status::Waiting {
        world.clock.sleep(SECOND / 10).await;
    }
    world.clock.sleep(2 * LEASE).await;
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    there.until(&second, id, Status::Completed).await;
    world.store.set(Fault::None);
    assert_eq!(names(&world.seen()), ["a", "b 42"]);
    assert_eq!(count(&kinds(&there, id).await, EntryKind::Signalled), 1);
    assert_eq!((second.stats().signalled, first.stats().signalled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_fenced_records_no_signal() {
    let world = World::new();
    let first = world.executor(approval(&world, 3 * LEASE));
    let execution = first.start(7).await.unwrap();
    let id = execution.id();
    send(&first, id, 42, 1).await;
    world.clock.sleep(LEASE / 2).await;
    world.store.set(Fault::NoRenewals);
    let there = world.of_another_process();
    let second = there.executor(approval(&there, Duration::ZERO));
    world.clock.sleep(2 * LEASE).await;
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    there.until(&second, id, Status::Completed).await;
    world.store.set(Fault::None);
    assert!(matches!(execution.await, Err(SagaError::Fenced { .. })));
    assert_eq!(count(&kinds(&there, id).await, EntryKind::Signalled), 1);
    assert_eq!((first.stats().fenced, first.stats().signalled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_cannot_be_read_yet_is_taken_after_the_outage() {
    let world = World::new();
    let sagas = world.executor(approval(&world, Duration::ZERO));
    let id = world.waiting(&sagas).await;
    world.store.set(Fault::NoSignals);
    send(&sagas, id, 42, 1).await;
    world.clock.sleep(2 * HOUR).await;
    assert_eq!(sagas.state(id).await.unwrap().unwrap().status, Status::Running);
    assert!(sagas.stats().store_failed > 10);
    world.store.set(Fault::None);
    world.until(&sagas, id, Status::Completed).await;
    assert_eq!(names(&world.seen()), ["a", "b 42"], "the signal came before the limit");
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_the_wait_is_lost_and_the_signal_comes_then() {
    let world = World::new();
    let sagas = world.executor(approval(&world, MINUTE));
    let id = sagas.start(7).await.unwrap().id();
    world.store.set(Fault::LosesAnswer);
    world.clock.sleep(MINUTE).await;
    send(&sagas, id, 42, 1).await;
    world.until(&sagas, id, Status::Completed).await;
    assert_seen(&world, &[(0, "a"), (60, "b 42")]);
    assert_eq!(count(&kinds(&world, id).await, EntryKind::Signalled), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For all times of a signal, of a repetition and of a cancel, also at the instant of the limit: the first event
    /// in the log decides, the wait ends once, and the saga ends with all effects or none.
    #[test]
    fn the_first_event_in_the_log_decides(
        signal in prop_oneof![0u64..7200, Just(3600u64), 3598u64..3603],
        millis in 0u64..1000,
        cancel in proptest::option::of(prop_oneof![0u64..7200, 3599u64..3602]),
        takes in prop_oneof![Just(0u64), 0u64..7200],
        racing in proptest::option::of(0u32..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let world = World::new();
            let sagas = world.executor(approval(&world, Duration::from_secs(takes)));
            let execution = sagas.start(7).await.unwrap();
            let id = execution.id();
            if let Some(appends) = racing {
                race(&world, id, appends);
            }
            let at = |seconds: u64| world.clock.sleep(Duration::from_millis(1000 * seconds + millis));
            let sending = async {
                at(signal).await;
                sagas.signal(id, APPROVED, 1_u32, SignalId::new(1)).await
            };
            let repeating = async {
                at(signal + 1).await;
                sagas.signal(id, APPROVED, 2_u32, SignalId::new(1)).await
            };
            let cancelling = async {
                if let Some(cancel) = cancel {
                    at(cancel).await;
                    sagas.cancel(id).await.unwrap();
                }
            };
            let (sent, repeated, (), report) =
                tokio::join!(sending, repeating, cancelling, execution);
            let (report, kinds) = (report.unwrap(), kinds(&world, id).await);
            let ends = [EntryKind::Signalled, EntryKind::ActionFailed];
            let ended: usize = ends.iter().map(|kind| count(&kinds, *kind)).sum();
            assert!(ended <= 1, "{kinds:?}");
            let seen = world.seen();
            let is_done = seen.iter().any(|(_, name)| name.starts_with("b "));
            match report.status() {
                Status::Completed => assert!(is_done && count(&kinds, EntryKind::Signalled) == 1),
                status => {
                    assert_eq!(status, Status::Compensated);
                    let acts = seen.iter().filter(|(_, name)| name == "a").count();
                    let undos = seen.iter().filter(|(_, name)| name == "undo a").count();
                    assert!(undos >= acts.min(1) && !is_done || cancel.is_some(), "{seen:?}");
                }
            }
            // Both calls agree on the signal, whichever came first.
            match (&sent, &repeated) {
                (Ok(Signalled::Delivered | Signalled::Duplicate), Ok(Signalled::Duplicate)) => {}
                (Err(SagaError::SignalTooLate { .. }), Err(SagaError::SignalTooLate { .. })) => {}
                other => panic!("{other:?}"),
            }
            // A signal that the store has recorded before the limit counts, unless a cancel comes.
            if sent.is_ok() && cancel.is_none() {
                assert_eq!(report.status(), Status::Completed, "{kinds:?}");
            }
        });
    }
}
