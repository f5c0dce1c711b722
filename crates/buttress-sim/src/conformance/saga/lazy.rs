//! Operations that are never polled.

use std::time::Duration;

use buttress_durable::saga::{SagaId, Status, Store, TakeOver};

use super::super::{Harness, cases, expect};
use super::{LEASE, ONE, TWO, append, saga, take_over, with};

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness: an_operation_that_is_never_polled_has_no_effect);
}

async fn an_operation_that_is_never_polled_has_no_effect<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1]).await;
    let id = SagaId::new(1);
    drop(store.create(saga(2, ONE)));
    drop(store.append(append(1, 1, 1, Status::Unwinding)));
    drop(store.request_cancel(id));
    drop(store.release_worker(ONE));
    drop(store.renew_worker(TWO, LEASE));
    assert_eq!(expect(store.load(SagaId::new(2)).await, "load"), None, "create");
    let record = expect(store.load(id).await, "load").unwrap();
    assert_eq!((record.entries.len(), record.status), (1, Status::Running), "append");
    assert!(!record.cancel_requested, "request_cancel");
    assert_eq!(take_over(&store, TWO).await, [], "retire");

    harness.advance(LEASE).await;
    drop(store.renew_worker(ONE, LEASE));
    drop(store.take_abandoned(TakeOver::new(TWO, ("order", 3), 100)));
    drop(store.take_saga(TWO, id));
    assert_eq!(expect(store.load(id).await, "load").unwrap().epoch, 1, "take_over, take");
    assert_eq!(take_over(&store, TWO).await, [(id, 2)], "renew");

    expect(store.append(append(1, 2, 1, Status::Completed)).await, "append");
    harness.advance(Duration::from_secs(60)).await;
    drop(store.purge_sagas(None, Duration::ZERO, 9));
    assert_eq!(expect(store.purge_sagas(None, Duration::ZERO, 9).await, "purge"), 1);
}
