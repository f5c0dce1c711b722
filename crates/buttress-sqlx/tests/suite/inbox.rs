//! The receipts of consumers.

use buttress::StoreErrorKind;
use buttress_durable::outbox::{Inbox, MessageId, Receipt};

use crate::db::{Db, on_each_database, rng};

on_each_database! {
    a_message_is_received_once_by_each_consumer
    names_have_bounds
}

async fn a_message_is_received_once_by_each_consumer<D: Db>(db: D) {
    let store = db.store();
    let message = MessageId::random(&rng());
    let mut tx = db.begin().await;
    assert_eq!(store.receive(&mut tx, "mail", message).await.unwrap(), Receipt::First);
    db.rollback(tx).await;
    let mut tx = db.begin().await;
    assert_eq!(store.receive(&mut tx, "mail", message).await.unwrap(), Receipt::First);
    assert_eq!(store.receive(&mut tx, "mail", message).await.unwrap(), Receipt::Repeated);
    assert_eq!(store.receive(&mut tx, "stock", message).await.unwrap(), Receipt::First);
    db.commit(tx).await;
    let mut tx = db.begin().await;
    assert_eq!(store.receive(&mut tx, "mail", message).await.unwrap(), Receipt::Repeated);
    let other = MessageId::random(&rng());
    assert_eq!(store.receive(&mut tx, "mail", other).await.unwrap(), Receipt::First);
    db.commit(tx).await;
}

async fn names_have_bounds<D: Db>(db: D) {
    for name in ["", "a\0", &"n".repeat(513)] {
        let mut tx = db.begin().await;
        let error = db.store().receive(&mut tx, name, MessageId::new(1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        db.rollback(tx).await;
    }
}
