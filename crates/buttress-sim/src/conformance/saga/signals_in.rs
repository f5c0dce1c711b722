//! Signals that are sent in a caller's transaction.

use buttress::StoreErrorKind;
use buttress_durable::saga::{LARGEST_SIGNAL, SignalAnswer, SignalIn, Store};

use super::super::{Transactions, cases, expect, refused};
use super::signals::{due, load, send, signal, signals, take, waiting};
use super::{TWO, changed};

/// A store that sends signals in a caller's transaction.
pub(super) trait Signals<Tx>: Store<Vec<u8>> + SignalIn<Tx, Vec<u8>> {}

impl<S: Store<Vec<u8>> + SignalIn<Tx, Vec<u8>>, Tx> Signals<Tx> for S {}

/// Runs every case of signals that are sent in a caller's transaction.
pub(super) async fn all<S: Signals<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        a_signal_that_is_rolled_back_never_was,
        a_signal_that_is_committed_makes_its_saga_due,
        a_transaction_that_sends_one_signal_twice,
        a_signal_in_a_transaction_that_is_never_polled,
    );
}

async fn a_signal_that_is_rolled_back_never_was<S: Signals<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = waiting(harness).await;
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        let sent = store.signal_in(&mut tx, signal(1, "approved", 7)).await;
        assert_eq!(expect(sent, "signal_in"), SignalAnswer::Delivered);
        harness.roll_back(tx).await;
        assert_eq!((signals(&store, 1).await, load(&store, 1).await.signals), (vec![], 0));
        assert!(!due(&store).await);
    }
    assert_eq!(send(&store, signal(1, "approved", 8)).await, SignalAnswer::Delivered);
}

async fn a_signal_that_is_committed_makes_its_saga_due<S: Signals<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = waiting(harness).await;
    let other = harness.reopen(&store).await;
    let mut tx = harness.begin(&store).await;
    let sent = store.signal_in(&mut tx, signal(1, "approved", 7)).await;
    assert_eq!(expect(sent, "signal_in"), SignalAnswer::Delivered);
    harness.commit(tx).await;
    assert!(due(&other).await);
    let taken = take(&other, TWO).await;
    assert_eq!((taken.len(), taken[0].signals), (1, 1));
    assert_eq!(signals(&other, 1).await[0].payload, b"approved 7");
    assert_eq!(send(&store, signal(1, "approved", 7)).await, SignalAnswer::Duplicate);
}

async fn a_transaction_that_sends_one_signal_twice<S: Signals<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = waiting(harness).await;
    let mut tx = harness.begin(&store).await;
    let large = changed(signal(1, "paid", 7), |signal| {
        signal.payload = vec![7; LARGEST_SIGNAL + 1];
    });
    let unknown = signal(9, "approved", 7);
    refused(store.signal_in(&mut tx, large).await, StoreErrorKind::Invalid, "too large");
    for (new, wanted) in [
        (signal(1, "approved", 7), SignalAnswer::Delivered),
        (signal(1, "approved", 7), SignalAnswer::Duplicate),
        (signal(1, "approved", 8), SignalAnswer::Later),
        (signal(1, "paid", 8), SignalAnswer::Delivered),
        (unknown, SignalAnswer::Unknown),
    ] {
        assert_eq!(expect(store.signal_in(&mut tx, new).await, "signal_in"), wanted);
    }
    harness.commit(tx).await;
    let kept = signals(&store, 1).await;
    assert_eq!(kept.iter().map(|signal| signal.id.get()).collect::<Vec<_>>(), [7, 8]);
}

async fn a_signal_in_a_transaction_that_is_never_polled<S: Signals<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = waiting(harness).await;
    let mut tx = harness.begin(&store).await;
    drop(store.signal_in(&mut tx, signal(1, "approved", 7)));
    harness.commit(tx).await;
    assert_eq!(signals(&store, 1).await, []);
    assert!(!due(&store).await);
}
