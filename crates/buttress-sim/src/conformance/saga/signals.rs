//! Signals to sagas.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::saga::{
    Append, Appended, Entry, LARGEST_SIGNAL, NewSignal, Record, SagaId, Signal, SignalAnswer,
    SignalId, Status, Store, TakeOver, WorkerId,
};

use super::super::{GRAIN, Harness, all_of, both, cases, expect, refused};
use super::{LEASE, ONE, THREE, TWO, append, changed, done, saga, take_over, with};

/// Longer than a lease.
const WAIT: Duration = Duration::from_secs(60);

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness:
        a_signal_is_kept_with_its_payload,
        an_early_signal_keeps_the_saga_from_waiting,
        a_signal_makes_a_saga_that_waits_due,
        only_the_first_signal_of_a_name_is_kept,
        a_saga_that_takes_no_signal_says_why,
        an_append_that_depends_on_no_signals_is_written,
        an_append_whose_answer_was_lost_before_the_signal,
        a_signal_at_the_instant_of_the_limit_or_the_end_of_the_wait,
        a_signal_while_the_saga_goes_to_wait,
        many_callers_send_one_signal,
        two_workers_and_one_signal,
        the_owner_before_is_fenced_whatever_it_has_seen,
        signals_are_kept_until_the_saga_is_removed,
        a_payload_of_up_to_the_largest_size,
        a_signal_that_is_never_polled_is_not_sent,
    );
}

pub(super) fn signal(id: u128, name: &str, signal: u128) -> NewSignal<Vec<u8>> {
    let payload = format!("{name} {signal}").into_bytes();
    NewSignal::new(SagaId::new(id), ("order", 3), name, SignalId::new(signal), payload)
}

pub(super) async fn send<S: Store<Vec<u8>>>(store: &S, new: NewSignal<Vec<u8>>) -> SignalAnswer {
    expect(store.signal(new).await, "signal")
}

pub(super) async fn signals<S: Store<Vec<u8>>>(store: &S, id: u128) -> Vec<Signal<Vec<u8>>> {
    expect(store.signals(SagaId::new(id)).await, "signals")
}

pub(super) async fn load<S: Store<Vec<u8>>>(store: &S, id: u128) -> Record<Vec<u8>> {
    expect(store.load(SagaId::new(id)).await, "load").unwrap()
}

pub(super) async fn due<S: Store<Vec<u8>>>(store: &S) -> bool {
    expect(store.has_due("order", 3).await, "has_due")
}

pub(super) async fn take<S: Store<Vec<u8>>>(store: &S, worker: WorkerId) -> Vec<Record<Vec<u8>>> {
    let taken = expect(store.take_due(TakeOver::new(worker, ("order", 3), 9)).await, "take_due");
    assert_eq!(taken.corrupt, []);
    taken.sagas
}

/// Returns the append of a saga that waits for a signal, at position 1 under epoch 1.
fn wait(id: u128, limit: Duration, seen: u64) -> Append<Vec<u8>> {
    let entries = vec![done(0, b"7"), Entry::wait_started(1, limit)];
    let append = Append::new(SagaId::new(id), 1, 1, entries, Status::Running);
    append.waiting(limit).unless_signalled(seen)
}

/// Returns the append that ends the wait without a signal, at position 3.
fn late(id: u128, epoch: u64, seen: u64) -> Append<Vec<u8>> {
    let why = Some("no signal".to_owned());
    let entries = vec![Entry::ActionFailed { step: 1, why }, Entry::Unwinding { why: None }];
    let append = Append::new(SagaId::new(id), epoch, 3, entries, Status::Unwinding);
    append.unless_signalled(seen)
}

async fn write<S: Store<Vec<u8>>>(store: &S, append: Append<Vec<u8>>) -> Appended {
    expect(store.append(append).await, "append")
}

/// Returns a store with a saga that waits for a signal.
pub(super) async fn waiting<S: Store<Vec<u8>>>(harness: &impl Harness<S>) -> S {
    let store = with(harness, &[1]).await;
    assert_eq!(write(&store, wait(1, WAIT, 0)).await, Appended::new(false));
    store
}

async fn a_signal_is_kept_with_its_payload<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2]).await;
    assert_eq!((load(&store, 1).await.signals, signals(&store, 1).await), (0, vec![]));
    assert_eq!(send(&store, signal(1, "paid", 7)).await, SignalAnswer::Delivered);
    let empty = changed(signal(1, "approved", 7), |signal| signal.payload.clear());
    assert_eq!(send(&store, empty).await, SignalAnswer::Delivered);
    for store in [&store, &harness.reopen(&store).await] {
        let kept = signals(store, 1).await;
        let paid = Signal::new("paid", SignalId::new(7), b"paid 7".to_vec());
        assert_eq!(kept, [paid, Signal::new("approved", SignalId::new(7), Vec::new())]);
        let record = load(store, 1).await;
        assert_eq!((record.signals, record.entries.len()), (2, 1), "the log is unchanged");
        assert_eq!((record.status, record.epoch), (Status::Running, 1));
        assert_eq!((signals(store, 2).await, load(store, 2).await.signals), (vec![], 0));
        assert_eq!(signals(store, 9).await, [], "of a saga that is unknown");
    }
}

async fn an_early_signal_keeps_the_saga_from_waiting<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    assert!(!due(&store).await, "it has an owner");
    assert_eq!(write(&store, wait(1, WAIT, 0)).await, Appended::unseen_signals(false));
    let record = load(&store, 1).await;
    assert_eq!((record.status, record.entries.len()), (Status::Running, 1), "nothing was written");
    assert!(expect(store.request_cancel(SagaId::new(1)).await, "cancel"));
    assert_eq!(write(&store, wait(1, WAIT, 0)).await, Appended::unseen_signals(true));
    // The owner has read the signal, and it is for a later step.
    assert_eq!(write(&store, wait(1, WAIT, 1).knowing_cancel(true)).await, Appended::new(true));
    assert_eq!(load(&store, 1).await.status, Status::Waiting);
    assert!(!due(&store).await, "nothing has come since");
}

async fn a_signal_makes_a_saga_that_waits_due<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness).await;
    harness.advance(WAIT / 2).await;
    assert!(!due(&store).await);
    let other = harness.reopen(&store).await;
    assert_eq!(send(&other, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    assert!(due(&store).await, "immediately");
    let taken = take(&store, TWO).await;
    let [record] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((record.epoch, record.status, record.signals), (2, Status::Running, 1));
    let began = record.times.last().copied().flatten().unwrap();
    assert!(record.taken_at.unwrap() < began + WAIT, "the time has not come");
    assert!(!due(&store).await);
    // The saga waits for another signal now.
    let again = changed(wait(1, WAIT, 1), |append| (append.epoch, append.position) = (2, 3));
    assert_eq!(write(&store, again).await, Appended::new(false));
    harness.advance(WAIT - GRAIN).await;
    assert!(!due(&store).await);
    harness.advance(GRAIN).await;
    assert!(due(&store).await, "its limit is as written");
}

async fn only_the_first_signal_of_a_name_is_kept<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness).await;
    let other = harness.reopen(&store).await;
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    let again = changed(signal(1, "approved", 7), |signal| signal.payload = b"other".to_vec());
    assert_eq!(send(&other, again).await, SignalAnswer::Duplicate);
    assert_eq!(send(&other, signal(1, "approved", 8)).await, SignalAnswer::Later);
    assert_eq!(send(&other, signal(1, "paid", 7)).await, SignalAnswer::Delivered);
    let kept = signals(&store, 1).await;
    let payloads: Vec<&[u8]> = kept.iter().map(|signal| &signal.payload[..]).collect();
    assert_eq!(payloads, [&b"approved 7"[..], b"paid 7"]);
    assert_eq!(load(&store, 1).await.signals, 2);
}

async fn a_saga_that_takes_no_signal_says_why<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2, 3, 4]).await;
    assert_eq!(send(&store, signal(9, "approved", 7)).await, SignalAnswer::Unknown);
    let other = SignalAnswer::OtherDefinition { definition: "order".to_owned(), version: 3 };
    let new = changed(signal(1, "approved", 7), |signal| signal.version = 4);
    assert_eq!(send(&store, new).await, other);
    let new = changed(signal(1, "approved", 7), |signal| signal.definition = "refund".to_owned());
    assert_eq!(send(&store, new).await, other);

    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    for (id, status) in [
        (1, Status::Completed),
        (2, Status::Compensated),
        (3, Status::Unwinding),
        (4, Status::Stuck),
    ] {
        expect(store.append(append(id, 1, 1, status)).await, "append");
        let answer = send(&store, signal(id, "paid", 7)).await;
        match status {
            Status::Stuck => assert_eq!(answer, SignalAnswer::Delivered, "it may run again"),
            _ => assert_eq!(answer, SignalAnswer::TooLate(status)),
        }
    }
    // The caller may repeat the call after the saga has ended.
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Duplicate);
    let late = send(&store, signal(1, "approved", 8)).await;
    assert_eq!(late, SignalAnswer::TooLate(Status::Completed));
    for id in [2, 3, 9] {
        assert_eq!(signals(&store, id).await, [], "{id}");
    }
}

async fn an_append_that_depends_on_no_signals_is_written<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1]).await;
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    assert_eq!(write(&store, append(1, 1, 1, Status::Running)).await, Appended::new(false));
    let ended = changed(append(1, 1, 2, Status::Completed), |append| {
        append.seen_signals = Some(1);
    });
    assert_eq!(write(&store, ended).await, Appended::new(false));
    assert_eq!(load(&store, 1).await.entries.len(), 3);
}

async fn an_append_whose_answer_was_lost_before_the_signal<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness).await;
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    assert_eq!(write(&store, wait(1, WAIT, 0)).await, Appended::new(false), "it is in the log");
    assert_eq!(load(&store, 1).await.entries.len(), 3);
    let other = changed(wait(1, WAIT, 0), |append| {
        append.entries[1] = Entry::wait_started(1, 2 * WAIT);
    });
    refused(store.append(other).await, StoreErrorKind::Conflict, "other content");
    assert!(due(&store).await);
}

async fn a_signal_at_the_instant_of_the_limit_or_the_end_of_the_wait<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    // Either order is right, but both operations must agree on it.
    for _ in 0..10 {
        let store = waiting(harness).await;
        let other = harness.reopen(&store).await;
        harness.advance(WAIT).await;
        expect(store.renew_worker(TWO, LEASE).await, "renew");
        assert_eq!(take(&store, TWO).await.len(), 1);
        let ending = store.append(late(1, 2, 0));
        let (ended, sent) = both(ending, other.signal(signal(1, "approved", 7))).await;
        let (ended, sent) = (expect(ended, "append"), expect(sent, "signal"));
        let record = load(&store, 1).await;
        if ended.has_unseen_signals {
            assert_eq!(
                (sent, record.signals),
                (SignalAnswer::Delivered, 1),
                "the signal was first"
            );
            assert_eq!((record.status, record.entries.len()), (Status::Running, 3));
        } else {
            assert_eq!(sent, SignalAnswer::TooLate(Status::Unwinding), "the end was first");
            assert_eq!((record.status, record.entries.len()), (Status::Unwinding, 5));
            assert_eq!(record.signals, 0);
        }
    }
}

async fn a_signal_while_the_saga_goes_to_wait<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    for _ in 0..10 {
        let store = with(harness, &[1]).await;
        let other = harness.reopen(&store).await;
        let parking = store.append(wait(1, WAIT, 0));
        let (parked, sent) = both(parking, other.signal(signal(1, "approved", 7))).await;
        assert_eq!(expect(sent, "signal"), SignalAnswer::Delivered);
        let (parked, record) = (expect(parked, "append"), load(&store, 1).await);
        assert_eq!(record.signals, 1);
        // The owner knows of the signal, or any worker takes the saga.
        match parked.has_unseen_signals {
            true => assert_eq!((record.status, due(&store).await), (Status::Running, false)),
            false => assert_eq!((record.status, due(&store).await), (Status::Waiting, true)),
        }
    }
}

async fn many_callers_send_one_signal<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness).await;
    let other = harness.reopen(&store).await;
    let callers = (0..20_u128).map(|caller| {
        let store = if caller % 2 == 0 { &store } else { &other };
        send(store, signal(1, "approved", caller % 3))
    });
    let answers = all_of(callers).await;
    let count = |wanted: SignalAnswer| answers.iter().filter(|answer| **answer == wanted).count();
    assert_eq!(count(SignalAnswer::Delivered), 1, "{answers:?}");
    let kept = signals(&store, 1).await;
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    let same = (0..20_u128).filter(|caller| caller % 3 == kept.id.get()).count();
    assert_eq!(count(SignalAnswer::Duplicate), same - 1, "{answers:?}");
    assert_eq!(count(SignalAnswer::Later), 20 - same, "{answers:?}");
    assert_eq!(load(&store, 1).await.signals, 1);
}

async fn two_workers_and_one_signal<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    for _ in 0..5 {
        let store = waiting(harness).await;
        let other = harness.reopen(&store).await;
        assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
        expect(store.renew_worker(TWO, LEASE).await, "renew");
        expect(store.renew_worker(THREE, LEASE).await, "renew");
        let (mut one, mut two) = both(take(&store, TWO), take(&other, THREE)).await;
        if one.is_empty() && two.is_empty() {
            one = take(&store, TWO).await;
        }
        one.append(&mut two);
        let [record] = &one[..] else { panic!("taken by both: {one:?}") };
        assert_eq!((record.epoch, record.signals), (2, 1));
        let taken = Entry::Signalled { step: 1, output: b"approved 7".to_vec() };
        let append = Append::new(SagaId::new(1), 2, 3, vec![taken.clone()], Status::Completed);
        assert_eq!(write(&store, append.clone()).await, Appended::new(false));
        assert_eq!(write(&other, append).await, Appended::new(false), "the answer was lost");
        let record = load(&other, 1).await;
        assert_eq!((record.entries.len(), record.entries.last()), (4, Some(&taken)));
    }
}

async fn the_owner_before_is_fenced_whatever_it_has_seen<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1]).await;
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
    harness.advance(2 * LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
    for seen in [0, 1] {
        let parked = store.append(wait(1, WAIT, seen)).await;
        refused(parked, StoreErrorKind::Fenced, "the owner before");
    }
    let taken = Entry::Signalled { step: 1, output: b"approved 7".to_vec() };
    let append = Append::new(SagaId::new(1), 1, 1, vec![taken], Status::Running);
    refused(store.append(append).await, StoreErrorKind::Fenced, "the owner before");
    assert_eq!(load(&store, 1).await.entries.len(), 1);
}

async fn signals_are_kept_until_the_saga_is_removed<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2]).await;
    for id in [1, 2] {
        assert_eq!(send(&store, signal(id, "approved", 7)).await, SignalAnswer::Delivered);
    }
    expect(store.append(append(1, 1, 1, Status::Completed)).await, "append");
    harness.advance(WAIT).await;
    assert_eq!(signals(&store, 1).await.len(), 1, "its saga is kept");
    assert_eq!(expect(store.purge_sagas(None, WAIT, 9).await, "purge"), 1);
    assert_eq!(signals(&store, 1).await, []);
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Unknown);
    assert_eq!(signals(&store, 2).await.len(), 1, "its saga runs");
    // A new saga under the id has no signals.
    expect(store.create(saga(1, ONE)).await, "create");
    assert_eq!((load(&store, 1).await.signals, signals(&store, 1).await), (0, vec![]));
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Delivered);
}

async fn a_payload_of_up_to_the_largest_size<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let sized = |bytes| changed(signal(1, "approved", 7), |signal| signal.payload = vec![7; bytes]);
    let refusal = store.signal(sized(LARGEST_SIGNAL + 1)).await;
    refused(refusal, StoreErrorKind::Invalid, "a byte too large");
    assert_eq!(load(&store, 1).await.signals, 0);
    assert_eq!(send(&store, sized(LARGEST_SIGNAL)).await, SignalAnswer::Delivered);
    assert_eq!(signals(&store, 1).await[0].payload.len(), LARGEST_SIGNAL);
}

async fn a_signal_that_is_never_polled_is_not_sent<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness).await;
    drop(store.signal(signal(1, "approved", 7)));
    assert!(!due(&store).await);
    assert_eq!((signals(&store, 1).await, load(&store, 1).await.signals), (vec![], 0));
}
