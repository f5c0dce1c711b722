use super::*;
use crate::saga::model::entry::Beginning;
use crate::saga::store::{Page, Store, TakeOver};

/// The largest epoch is never assigned, and stops only its own saga. An overflow here once failed
/// the take-over of all sagas.
#[tokio::test(start_paused = true)]
async fn the_last_epoch_is_never_assigned() {
    const LAST: u64 = i64::MAX as u64;
    let store = MemoryStore::of_bytes(Clock::default());
    let (gone, taker) = (WorkerId::new(1), WorkerId::new(2));
    let epochs = [u64::MAX, LAST, LAST - 1, LAST - 2, 1];
    for (n, epoch) in (1..).zip(epochs) {
        let beginning = Beginning::new(Vec::new());
        let saga = NewSaga::new(SagaId::new(n), ("order", 1), "json", gone, beginning);
        store.create(saga).await.unwrap();
        let mut rows = store.lock();
        rows.sagas.get_mut(&SagaId::new(n)).unwrap().record.epoch = epoch;
    }
    for n in 1..=3 {
        let error = store.take_saga(taker, SagaId::new(n)).await.unwrap_err();
        assert_eq!(error.kind(), buttress::StoreErrorKind::Corrupt);
        assert!(error.to_string().contains(&SagaId::new(n).to_string()), "{error}");
    }
    let taken = store.take_abandoned(TakeOver::new(taker, ("order", 1), 9)).await.unwrap();
    let corrupt: Vec<SagaId> = taken.corrupt.iter().map(|(id, _)| *id).collect();
    assert_eq!(corrupt, [SagaId::new(1), SagaId::new(2), SagaId::new(3)]);
    let taken: Vec<u64> = taken.sagas.iter().map(|record| record.epoch).collect();
    assert_eq!(taken, [LAST - 1, 2]);
    let now: Vec<u64> = store.list(Page::first(9)).await.unwrap().iter().map(|s| s.epoch).collect();
    assert_eq!(now, [u64::MAX, LAST, LAST - 1, LAST - 1, 2]);
}
