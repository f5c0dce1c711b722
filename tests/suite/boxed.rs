//! An application that names its stores only where it opens them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::idempotency::{self, IdempotencyLayer, InvalidKey, Key};
use buttress::{Clock, Json};
use buttress_durable::outbox::{self, Message, MessageId, NewMessage, Outbox, Relay};
use buttress_durable::saga::{self, Call, Definition, Executor, Status};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, ServiceExt, service_fn};

/// The state of an application, without the type of a store.
struct App {
    orders: Executor<u32, Json, saga::BoxStore<Vec<u8>>>,
    relay: Relay<outbox::BoxStore, BoxCloneSyncService<Message, (), BoxError>>,
    answers: IdempotencyLayer<ByNumber, u32>,
}

type ByNumber = fn(&u32) -> Result<Key, InvalidKey>;

fn by_number(number: &u32) -> Result<Key, InvalidKey> {
    Key::new(&number.to_string())
}

#[tokio::test(start_paused = true)]
async fn an_application_needs_no_type_parameter_for_its_stores() {
    let mut order = Definition::<u32>::builder("order", 1).codec(Json);
    let double = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(2 * call.into_request()));
    order.step("double").action((), double, |input: &u32, ()| *input).add();
    let (logs, messages) =
        (saga::MemoryStore::of_bytes(Clock::default()), outbox::MemoryStore::new(Clock::default()));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let publisher = {
        let seen = seen.clone();
        service_fn(move |message: Message| {
            seen.lock().unwrap().push(message.payload);
            std::future::ready(Ok::<(), BoxError>(()))
        })
    };
    let boxed = Outbox::new(outbox::BoxStore::new(messages.clone()));
    let publisher = BoxCloneSyncService::new(publisher);
    let config = idempotency::Config::new();
    let keys = idempotency::MemoryStore::default();
    let app = App {
        orders: Executor::new(
            order.build().unwrap(),
            saga::BoxStore::new(logs.clone()),
            saga::Config::new(),
        )
        .unwrap(),
        relay: Relay::new(&boxed, publisher, outbox::Config::new()).unwrap(),
        answers: IdempotencyLayer::new(config, keys, by_number as _).unwrap(),
    };

    let report = app.orders.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    let record = saga::Store::load(&logs, report.id()).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Completed, "in the store below");

    let mut tx = messages.begin();
    let message = NewMessage::new(MessageId::new(1), "order-7", "placed");
    outbox::Write::write(&messages, &mut tx, &message).await.unwrap();
    tx.commit();
    let relay = app.relay.spawn();
    Clock::default().sleep(Duration::from_secs(5)).await;
    relay.shut_down().await;
    assert_eq!(*seen.lock().unwrap(), [b"placed"]);
    assert_eq!(outbox::Store::backlog(&messages).await.unwrap().pending, 0);

    let calls = Arc::new(Mutex::new(0));
    let handler = {
        let calls = calls.clone();
        service_fn(move |number: u32| {
            *calls.lock().unwrap() += 1;
            std::future::ready(Ok::<u32, BoxError>(number))
        })
    };
    let service = app.answers.layer(handler);
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(7).await.unwrap(), 7);
    }
    assert_eq!(*calls.lock().unwrap(), 1);
}

/// A relay rejects a store that forgets receipts sooner than it retries, even behind a box.
#[test]
fn a_boxed_store_says_how_long_it_keeps_receipts() {
    let kept = Duration::from_secs(9);
    let store = outbox::MemoryStore::new(Clock::default()).keep_receipts(kept);
    let boxed = outbox::BoxStore::new(store);
    assert_eq!(outbox::Store::receipts_kept(&boxed), Some(kept));
}
