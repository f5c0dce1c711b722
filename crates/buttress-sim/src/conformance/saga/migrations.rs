//! Moves of sagas to another version of their definition.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::saga::{
    Append, Entry, Moved, NewLog, NewSignal, Record, SagaId, SignalAnswer, SignalId, Status, Store,
    TakeOver,
};

use super::super::{GRAIN, Harness, both, cases, expect, refused};
use super::{LEASE, ONE, TWO, append, changed, done, saga, with};

/// Longer than a lease.
const WAIT: Duration = Duration::from_secs(60);

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness:
        a_saga_that_waits_moves_with_its_times_and_is_due,
        a_move_is_repeated_and_another_one_is_refused,
        a_saga_moves_only_if_no_live_worker_runs_it,
        a_stuck_saga_stays_stuck_and_an_ended_one_never_moves,
        only_a_saga_as_it_was_loaded_moves,
        a_cancel_and_the_deadline_stay,
        a_log_may_become_longer_and_shorter,
        one_of_two_moves_counts,
        a_move_while_the_saga_is_taken,
    );
    if harness.fresh().await.keeps_signals() {
        cases!(harness:
            signals_stay_and_later_ones_are_of_the_new_version,
            a_move_while_a_signal_comes,
        );
    }
}

async fn load<S: Store<Vec<u8>>>(store: &S, id: u128) -> Record<Vec<u8>> {
    expect(store.load(SagaId::new(id)).await, "load").unwrap()
}

/// Returns the log of version 4 that replaces the log of a saga, with an input by which it is known.
async fn log<S: Store<Vec<u8>>>(store: &S, id: u128, input: &[u8]) -> NewLog<Vec<u8>> {
    let mut log = NewLog::new(&load(store, id).await, 4);
    log.beginning.input = input.to_vec();
    log
}

async fn migrate<S: Store<Vec<u8>>>(store: &S, log: &NewLog<Vec<u8>>) -> Moved {
    expect(store.migrate(log.clone()).await, "migrate")
}

/// Returns a store with a saga that waits, and that began to wait some time after its start.
async fn waiting<S: Store<Vec<u8>>>(harness: &impl Harness<S>, id: u128) -> S {
    let store = with(harness, &[id]).await;
    harness.advance(10 * GRAIN).await;
    let entries = vec![done(0, b"7"), Entry::wait_started(1, WAIT)];
    let wait = Append::new(SagaId::new(id), 1, 1, entries, Status::Running).waiting(WAIT);
    expect(store.append(wait).await, "wait");
    store
}

async fn due<S: Store<Vec<u8>>>(store: &S, version: u32) -> Vec<(SagaId, u64)> {
    let taken = store.take_due(TakeOver::new(TWO, ("order", version), 9)).await;
    expect(taken, "take_due").sagas.into_iter().map(|record| (record.id, record.epoch)).collect()
}

async fn a_saga_that_waits_moves_with_its_times_and_is_due<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, 1).await;
    let before = load(&store, 1).await;
    harness.advance(WAIT / 2).await;
    let mut new = NewLog::new(&before, 4);
    new.entries =
        vec![Entry::ActionStarted { step: 2 }, done(2, b"8"), Entry::wait_started(0, WAIT)];
    new.beginning.input = b"{\"currency\":\"EUR\"}".to_vec();
    new.beginning.shape = Some("wait:w[];b:c[];a:c[];".to_owned());
    // Its last worker is alive. It does not run a saga that waits.
    expect(store.renew_worker(ONE, 9 * WAIT).await, "renew");
    assert_eq!(migrate(&store, &new).await, Moved::Moved);
    let after = load(&harness.reopen(&store).await, 1).await;
    assert_eq!((after.version, after.epoch, after.status), (4, 2, Status::Waiting));
    assert_eq!((&after.entries, &after.beginning), (&new.entries, &new.beginning));
    assert_eq!((&after.times, after.created_at), (&before.times, before.created_at));
    assert_eq!((after.deadline, &after.codec), (before.deadline, &before.codec));
    assert!(after.due_at < before.due_at, "{:?}", after.due_at);
    assert!(!expect(store.has_due("order", 3).await, "has_due"));
    assert!(expect(store.has_due("order", 4).await, "has_due"), "due immediately");
    let late = store.append(append(1, 1, 3, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "the owner before");
    assert_eq!(due(&store, 3).await, []);
    assert_eq!(due(&store, 4).await, [(SagaId::new(1), 3)]);
    expect(store.append(append(1, 3, 3, Status::Running)).await, "the new owner");
}

async fn a_move_is_repeated_and_another_one_is_refused<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, 1).await;
    let (first, other) = (log(&store, 1, b"first").await, log(&store, 1, b"other").await);
    let mut longer = first.clone();
    longer.entries.push(Entry::WaitEnded { step: 1 });
    assert_eq!(migrate(&store, &first).await, Moved::Moved);
    let moved = load(&store, 1).await;
    assert_eq!(migrate(&store, &first).await, Moved::Moved, "the answer was lost");
    assert_eq!(migrate(&store, &other).await, Moved::Changed, "another input");
    assert_eq!(migrate(&store, &longer).await, Moved::Changed, "other entries");
    assert_eq!(load(&store, 1).await, moved);
    assert_eq!(due(&store, 4).await, [(SagaId::new(1), 3)]);
    assert_eq!(migrate(&store, &first).await, Moved::Changed, "a worker has taken it");
}

async fn a_saga_moves_only_if_no_live_worker_runs_it<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2]).await;
    expect(store.append(append(2, 1, 1, Status::Unwinding)).await, "append");
    for id in [1, 2] {
        let new = log(&store, id, b"new").await;
        assert_eq!(migrate(&store, &new).await, Moved::Owned);
        assert_eq!(load(&store, id).await.version, 3);
    }
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(migrate(&store, &log(&store, 1, b"new").await).await, Moved::Owned);
    harness.advance(GRAIN).await;
    for (id, status) in [(1, Status::Running), (2, Status::Unwinding)] {
        assert_eq!(migrate(&store, &log(&store, id, b"new").await).await, Moved::Moved);
        let moved = load(&store, id).await;
        assert_eq!((moved.version, moved.status, moved.epoch), (4, status, 2));
        assert_eq!(moved.beginning.input, b"new");
    }
    // No worker owns them, and the one that comes back does not either.
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    assert!(expect(store.has_unowned("order", 4).await, "has_unowned"));
    assert_eq!(expect(store.owned(ONE, "order", 4).await, "owned"), []);
    let late = store.append(append(1, 1, 1, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "the owner before");
    let taken = store.take_abandoned(TakeOver::new(TWO, ("order", 3), 9)).await;
    assert_eq!(expect(taken, "take_over").sagas, []);
    let taken = store.take_abandoned(TakeOver::new(TWO, ("order", 4), 9)).await;
    let taken: Vec<u64> = expect(taken, "take_over").sagas.iter().map(|one| one.epoch).collect();
    assert_eq!(taken, [3, 3]);
}

async fn a_stuck_saga_stays_stuck_and_an_ended_one_never_moves<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1, 2, 3]).await;
    let before = log(&store, 2, b"new").await;
    let ends = [(1, Status::Stuck), (2, Status::Completed), (3, Status::Compensated)];
    for (id, status) in ends {
        expect(store.append(append(id, 1, 1, status)).await, "append");
    }
    assert_eq!(migrate(&store, &log(&store, 1, b"new").await).await, Moved::Moved);
    let stuck = load(&store, 1).await;
    assert_eq!((stuck.version, stuck.status, stuck.due_at), (4, Status::Stuck, None));
    let taken = expect(store.take_saga(TWO, SagaId::new(1)).await, "take").unwrap();
    assert_eq!((taken.epoch, taken.beginning.input), (3, b"new".to_vec()));
    for id in [2, 3] {
        let ended = load(&store, id).await;
        assert_eq!(migrate(&store, &log(&store, id, b"new").await).await, Moved::Gone);
        assert_eq!(load(&store, id).await, ended);
    }
    assert_eq!(migrate(&store, &before).await, Moved::Gone, "it has ended since");
    let unknown = changed(before, |log| log.saga = SagaId::new(9));
    assert_eq!(migrate(&store, &unknown).await, Moved::Gone);
}

async fn only_a_saga_as_it_was_loaded_moves<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, 1).await;
    let before = load(&store, 1).await;
    let loaded = log(&store, 1, b"new").await;
    let changes: [fn(&mut NewLog<Vec<u8>>); 6] = [
        |log| log.from = 2,
        |log| log.definition = "refund".to_owned(),
        |log| log.epoch = 7,
        |log| log.length = 2,
        |log| log.signals = 1,
        |log| log.status = Status::Running,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut other = loaded.clone();
        change(&mut other);
        assert_eq!(migrate(&store, &other).await, Moved::Changed, "{at}");
        assert_eq!(load(&store, 1).await, before);
    }
    for epoch in [i64::MAX as u64, u64::MAX] {
        let other = changed(loaded.clone(), |log| log.epoch = epoch);
        assert_eq!(migrate(&store, &other).await, Moved::Changed);
    }
    assert_eq!(migrate(&store, &loaded).await, Moved::Moved);
}

async fn a_cancel_and_the_deadline_stay<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, 1).await;
    assert!(expect(store.request_cancel(SagaId::new(1)).await, "request_cancel"));
    // A cancel changes nothing of what a move compares.
    assert_eq!(migrate(&store, &log(&store, 1, b"new").await).await, Moved::Moved);
    let moved = load(&store, 1).await;
    assert!(moved.cancel_requested);
    assert_eq!(moved.deadline, saga(1, ONE).deadline);
    assert!(expect(store.request_cancel(SagaId::new(1)).await, "request_cancel"), "after it, too");
    assert_eq!(due(&store, 4).await, [(SagaId::new(1), 3)]);
}

async fn a_log_may_become_longer_and_shorter<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, 1).await;
    let mut long = log(&store, 1, b"long").await;
    let added = 300;
    for at in 0..added {
        long.entries.push(Entry::WaitStarted { step: 1, length: format!("{at}.000000000 s") });
        long.times.push((at % 2 == 0).then(|| Duration::from_secs(1_000_000_000 + at)));
    }
    assert_eq!(migrate(&store, &long).await, Moved::Moved);
    let moved = load(&store, 1).await;
    assert_eq!((&moved.entries, &moved.times), (&long.entries, &long.times));
    let mut short = NewLog::new(&moved, 5);
    short.entries.truncate(1);
    // Entries without a place in the times have no known time.
    short.times.clear();
    short.entries.push(Entry::wait_started(0, WAIT));
    assert_eq!(migrate(&store, &short).await, Moved::Moved);
    let moved = load(&store, 1).await;
    assert_eq!((moved.version, moved.epoch), (5, 3));
    assert_eq!((moved.entries, moved.times), (short.entries, vec![None, None]));
    assert_eq!(due(&store, 5).await, [(SagaId::new(1), 4)]);
    expect(store.append(append(1, 4, 2, Status::Running)).await, "append at the new end");
}

async fn one_of_two_moves_counts<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    for id in 1..=20 {
        let store = waiting(harness, id).await;
        let other = harness.reopen(&store).await;
        let (one, two) = (log(&store, id, b"one").await, log(&store, id, b"two").await);
        let moves = both(migrate(&store, &one), migrate(&other, &two)).await;
        let input = load(&store, id).await.beginning.input;
        match moves {
            (Moved::Moved, Moved::Changed) => assert_eq!(input, b"one"),
            (Moved::Changed, Moved::Moved) => assert_eq!(input, b"two"),
            moves => panic!("{moves:?}"),
        }
    }
}

async fn a_move_while_the_saga_is_taken<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    for id in 1..=20 {
        let store = waiting(harness, id).await;
        let other = harness.reopen(&store).await;
        expect(other.renew_worker(TWO, 9 * WAIT).await, "renew");
        harness.advance(WAIT).await;
        let new = log(&store, id, b"new").await;
        let (moved, taken) = both(migrate(&store, &new), due(&other, 3)).await;
        let record = load(&store, id).await;
        match moved {
            Moved::Moved => assert_eq!((taken.len(), record.version, record.epoch), (0, 4, 2)),
            Moved::Changed => {
                assert_eq!((taken.len(), record.version, record.epoch), (1, 3, 2));
                let again = log(&store, id, b"new").await;
                assert_eq!(migrate(&store, &again).await, Moved::Owned, "its worker runs it");
            }
            moved => panic!("{moved:?}"),
        }
    }
}

fn signal(id: u128, version: u32, name: &str) -> NewSignal<Vec<u8>> {
    NewSignal::new(SagaId::new(id), ("order", version), name, SignalId::new(1), b"yes".to_vec())
}

async fn signals_stay_and_later_ones_are_of_the_new_version<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, 1).await;
    let stale = log(&store, 1, b"stale").await;
    let sent = expect(store.signal(signal(1, 3, "approved")).await, "signal");
    assert_eq!(sent, SignalAnswer::Delivered);
    assert_eq!(migrate(&store, &stale).await, Moved::Changed, "a signal has come since");
    assert_eq!(migrate(&store, &log(&store, 1, b"new").await).await, Moved::Moved);
    assert_eq!(load(&store, 1).await.signals, 1);
    let signals = expect(store.signals(SagaId::new(1)).await, "signals");
    assert_eq!((signals.len(), &signals[0].name[..]), (1, "approved"));
    let other = SignalAnswer::OtherDefinition { definition: "order".to_owned(), version: 4 };
    assert_eq!(expect(store.signal(signal(1, 3, "paid")).await, "signal"), other);
    let repeated = expect(store.signal(signal(1, 3, "approved")).await, "signal");
    assert_eq!(repeated, SignalAnswer::Duplicate, "the sender knows the old version only");
    let sent = expect(store.signal(signal(1, 4, "paid")).await, "signal");
    assert_eq!(sent, SignalAnswer::Delivered);
}

async fn a_move_while_a_signal_comes<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    for id in 1..=20 {
        let store = waiting(harness, id).await;
        let other = harness.reopen(&store).await;
        let new = log(&store, id, b"new").await;
        let (moved, sent) =
            both(migrate(&store, &new), other.signal(signal(id, 3, "approved"))).await;
        let record = load(&store, id).await;
        match (moved, expect(sent, "signal")) {
            (Moved::Moved, SignalAnswer::OtherDefinition { version: 4, .. }) => {
                assert_eq!((record.version, record.signals), (4, 0));
            }
            (Moved::Changed, SignalAnswer::Delivered) => {
                assert_eq!((record.version, record.signals), (3, 1));
            }
            other => panic!("{other:?}"),
        }
    }
}
