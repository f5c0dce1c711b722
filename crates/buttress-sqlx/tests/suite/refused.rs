//! A database that refuses one row: the other operations continue.

use buttress::{Clock, StoreErrorKind};
use buttress_durable::outbox::{Config, Message, MessageId, NewMessage, Outbox, Relay, Store as _};
use buttress_durable::saga::{Store as _, WorkerId};
use tower::{BoxError, service_fn};

use crate::db::{Db, SECOND, on_each_database};
use crate::sagas::new_saga;

on_each_database! {
    one_message_that_is_refused_keeps_no_other_from_being_recorded
    one_saga_that_is_refused_keeps_no_other_from_being_written
}

async fn one_message_that_is_refused_keeps_no_other_from_being_recorded<D: Db>(db: D) {
    let messages = (0..500).map(|number| {
        NewMessage::new(MessageId::new(number), format!("key-{number}"), b"paid".as_slice())
    });
    db.write(messages.collect()).await;
    for sql in D::refuse("buttress_outbox", "UPDATE", "NEW.key = 'key-70'") {
        db.execute(&sql).await;
    }
    let publisher = service_fn(async |message: Message| match message.key.as_str() {
        "key-70" => Err(BoxError::from("no answer \u{2717}")),
        _ => Ok(()),
    });
    let relay = Relay::new(&Outbox::new(db.store().clone()), publisher, Config::new()).unwrap();
    let relay = relay.spawn();
    let clock = Clock::default();
    let give_up = clock.now() + 60 * SECOND;
    while db.store().backlog().await.unwrap().pending > 1 {
        let backlog = db.store().backlog().await.unwrap();
        assert!(clock.now() < give_up, "{backlog:?}");
        clock.sleep(SECOND / 20).await;
    }
    relay.shut_down().await;
    assert_eq!(db.store().backlog().await.unwrap().pending, 1);
    assert_eq!(relay.stats().relayed, 499);
}

/// Caught: callers that shared a batch with it got a transient error forever.
async fn one_saga_that_is_refused_keeps_no_other_from_being_written<D: Db>(db: D) {
    for sql in D::refuse("buttress_saga", "INSERT", "NEW.definition = 'refused'") {
        db.execute(&sql).await;
    }
    let mut creating = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = db.store().clone();
        creating.spawn(async move {
            let mut saga = new_saga(WorkerId::new(1));
            if number == 20 {
                saga.definition = "refused".to_owned();
            }
            (number, store.create(saga).await)
        });
    }
    for (number, created) in creating.join_all().await {
        match created {
            Ok(()) => assert_ne!(number, 20),
            Err(error) => assert_eq!((number, error.kind()), (20, StoreErrorKind::Invalid)),
        }
    }
}
