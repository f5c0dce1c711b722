//! Waiting sagas of versions that no executor runs.

use std::time::Duration;

use buttress_durable::saga::{Append, Entry, OVERDUE, SagaId, Status, Store};

use super::super::{GRAIN, Harness, cases, expect};
use super::{LEASE, ONE, TWO, changed, done, saga, with};

/// Longer than a lease.
const WAIT: Duration = Duration::from_secs(60);

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness:
        an_overdue_saga_of_another_version_is_listed,
        the_longest_overdue_come_after_the_unowned_and_no_more_than_asked_for,
    );
}

/// Adds a saga of a version that waits.
async fn add_waiting<S: Store<Vec<u8>>>(store: &S, id: u128, version: u32, length: Duration) {
    expect(store.create(changed(saga(id, ONE), |saga| saga.version = version)).await, "create");
    let entries = vec![done(0, b"7"), Entry::wait_started(1, length)];
    let append = Append::new(SagaId::new(id), 1, 1, entries, Status::Running).waiting(length);
    expect(store.append(append).await, "wait");
}

async fn others<S: Store<Vec<u8>>>(store: &S, known: &[u32], limit: usize) -> Vec<(u128, u32)> {
    let found = expect(store.other_versions("order", known, limit).await, "other_versions");
    found.into_iter().map(|saga| (saga.id.get(), saga.version)).collect()
}

async fn an_overdue_saga_of_another_version_is_listed<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[]).await;
    add_waiting(&store, 1, 2, WAIT).await;
    add_waiting(&store, 2, 3, WAIT).await;
    expect(store.renew_worker(ONE, 9 * WAIT).await, "renew");
    harness.advance(WAIT + OVERDUE - GRAIN).await;
    assert_eq!(others(&store, &[3], 9).await, [], "an executor may still take it");
    harness.advance(GRAIN).await;
    assert_eq!(
        others(&store, &[3], 9).await,
        [(1, 2)],
        "its last owner is alive, and does not run it"
    );
    assert_eq!(others(&store, &[2, 3], 9).await, []);
    assert_eq!(others(&store, &[], 9).await, [(1, 2), (2, 3)]);
    assert_eq!(expect(store.other_versions("refund", &[3], 9).await, "other_versions"), []);
    let listed = expect(store.other_versions("order", &[3], 9).await, "other_versions");
    assert_eq!((listed[0].status, listed[0].due_at.is_some()), (Status::Waiting, true));
}

async fn the_longest_overdue_come_after_the_unowned_and_no_more_than_asked_for<
    S: Store<Vec<u8>>,
>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[]).await;
    for (id, version, seconds) in
        [(5, 2, 9), (1, 4, 3), (3, 2, 6), (2, 1, 1), (4, 4, 90), (9, 3, 1)]
    {
        add_waiting(&store, id, version, Duration::from_secs(seconds)).await;
    }
    expect(store.create(changed(saga(8, ONE), |saga| saga.version = 4)).await, "create");
    harness.advance(LEASE + OVERDUE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    let all = [(8, 4), (2, 1), (1, 4), (3, 2), (5, 2)];
    assert_eq!(others(&store, &[3], 9).await, all);
    for limit in 0..=all.len() {
        assert_eq!(others(&store, &[3], limit).await, all[..limit], "{limit}");
    }
    // Of several known versions none is listed.
    assert_eq!(others(&store, &[3, 4], 9).await, [(2, 1), (3, 2), (5, 2)]);
    // A cancel makes a saga due, also one of another version.
    assert!(expect(store.request_cancel(SagaId::new(4)).await, "request_cancel"));
    harness.advance(OVERDUE).await;
    assert_eq!(others(&store, &[3], 9).await.last(), Some(&(4, 4)));
}
