//! The records of participants of sagas.

use buttress::StoreErrorKind;
use buttress_durable::saga::{Barrier, Passage, SagaId};

use crate::db::{Db, on_each_database, rng};

on_each_database! {
    actions_and_undos_in_every_order
    names_have_bounds
}

async fn actions_and_undos_in_every_order<D: Db>(db: D) {
    use Passage::{Overtaken, Proceed, Repeated};
    // The calls and their answers, each in a separate transaction.
    let tables: &[&[(char, Passage)]] = &[
        &[('a', Proceed), ('a', Repeated), ('a', Repeated)],
        &[('a', Proceed), ('u', Proceed), ('u', Repeated), ('a', Overtaken), ('u', Repeated)],
        &[('u', Overtaken), ('a', Overtaken), ('u', Overtaken), ('a', Overtaken)],
        &[('a', Proceed), ('a', Repeated), ('u', Proceed), ('a', Overtaken)],
    ];
    let store = db.store();
    for table in tables {
        let saga = SagaId::random(&rng());
        for (n, (what, answer)) in table.iter().enumerate() {
            let mut tx = db.begin().await;
            let passage = match what {
                'a' => store.action(&mut tx, saga, "charge").await.unwrap(),
                _ => store.undo(&mut tx, saga, "charge").await.unwrap(),
            };
            assert_eq!(passage, *answer, "{table:?} at {n}");
            // Other steps and other sagas have separate rows.
            assert_eq!(store.action(&mut tx, saga, &format!("other {n}")).await.unwrap(), Proceed);
            db.commit(tx).await;
        }
    }
    // A rolled back receipt does not exist.
    let saga = SagaId::random(&rng());
    let mut tx = db.begin().await;
    assert_eq!(store.undo(&mut tx, saga, "charge").await.unwrap(), Overtaken);
    db.rollback(tx).await;
    let mut tx = db.begin().await;
    assert_eq!(store.action(&mut tx, saga, "charge").await.unwrap(), Proceed);
    db.commit(tx).await;

    db.execute("UPDATE {s}buttress_inbox_step SET state = 9").await;
    let mut tx = db.begin().await;
    let error = store.action(&mut tx, saga, "charge").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains(&saga.to_string()), "{error}");
    db.rollback(tx).await;
}

async fn names_have_bounds<D: Db>(db: D) {
    let store = db.store();
    for name in ["", "a\0", &"n".repeat(513)] {
        let mut tx = db.begin().await;
        let errors = [
            store.action(&mut tx, SagaId::new(1), name).await.unwrap_err(),
            store.undo(&mut tx, SagaId::new(1), name).await.unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == StoreErrorKind::Invalid));
        db.rollback(tx).await;
    }
}
