//! Work that is done and whose result a database does not take, through the layer: it is not done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress::idempotency::{Config, Encoded, IdempotencyLayer, InvalidKey, Key, WithClaim};
use buttress::{Codec, CodecError, ErrorKind, Format};
use buttress_sqlx::LARGEST;
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{BoxError, Layer, ServiceExt, service_fn};

use crate::db::{Db, SECOND, on_each_database};

on_each_database! {
    a_result_that_the_database_refuses_leaves_its_key_done
    a_result_that_cannot_be_encoded_leaves_its_key_done
    a_result_that_is_too_large_for_a_transaction_leaves_its_key_free
    a_boxed_service_over_a_store_runs_in_a_task
}

type ByNumber = fn(&u8) -> Result<Key, InvalidKey>;

const BY_NUMBER: ByNumber = |number| Key::new(&number.to_string());

fn kind(answer: &Result<Vec<u8>, BoxError>) -> Option<ErrorKind> {
    use buttress::AsRefusal;
    answer.as_ref().err().and_then(AsRefusal::as_refusal).map(buttress::Error::kind)
}

/// A trigger, a limit or a constraint of the database's own. Results of other keys go to the store in the
/// same batch.
async fn a_result_that_the_database_refuses_leaves_its_key_done<D: Db>(db: D) {
    for sql in D::refuse("buttress_idempotency", "UPDATE", "length(NEW.value) = 3") {
        db.execute(&sql).await;
    }
    let calls = Arc::new(AtomicU32::new(0));
    let service = async |store: D::Store| {
        let calls = calls.clone();
        let layer = IdempotencyLayer::new(Config::new(), store, BY_NUMBER).unwrap();
        layer.layer(service_fn(move |number: u8| {
            calls.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, BoxError>(vec![0; usize::from(number)]))
        }))
    };
    let first = service(db.store().clone()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..6 {
        tasks.spawn(first.clone().oneshot(number));
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok), "every caller gets its answer");
    db.time().advance(299 * SECOND);
    for service in [first.clone(), service(db.another().await).await] {
        for number in 1..6 {
            let answer = service.clone().oneshot(number).await;
            match number {
                3 => assert_eq!(kind(&answer), Some(ErrorKind::ResultNotKept)),
                _ => assert_eq!(answer.unwrap().len(), usize::from(number)),
            }
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    db.time().advance(SECOND);
    assert!(first.oneshot(3).await.is_ok(), "the lifetime is over");
    assert_eq!(calls.load(Ordering::SeqCst), 6);
}

/// Takes no empty value.
#[derive(Clone, Copy)]
struct NotEmpty;

impl Format for NotEmpty {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "not-empty";
}

impl Codec<Vec<u8>> for NotEmpty {
    fn encode(&self, value: &Arc<Vec<u8>>) -> Result<Vec<u8>, CodecError> {
        match value.is_empty() {
            true => Err(CodecError::new(Self::NAME, "it is empty")),
            false => Ok(value.to_vec()),
        }
    }

    fn decode(&self, encoded: &Vec<u8>) -> Result<Arc<Vec<u8>>, CodecError> {
        Ok(Arc::new(encoded.clone()))
    }
}

async fn a_result_that_cannot_be_encoded_leaves_its_key_done<D: Db>(db: D) {
    let store = Encoded::new(db.store().clone(), NotEmpty);
    let layer = IdempotencyLayer::new(Config::new(), store, BY_NUMBER).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let service = layer.layer(service_fn(move |_: u8| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, BoxError>(Vec::new()))
    }));
    assert!(service.clone().oneshot(7).await.is_ok());
    db.time().advance(299 * SECOND);
    let answer = service.clone().oneshot(7).await;
    assert_eq!(kind(&answer), Some(ErrorKind::ResultNotKept));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// The handler gets the error before its commit, and rolls back: nothing was done.
async fn a_result_that_is_too_large_for_a_transaction_leaves_its_key_free<D: Db>(db: D) {
    let store = db.store().clone();
    let layer = IdempotencyLayer::transactional(Config::new(), store, BY_NUMBER).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let (counter, handles) = (calls.clone(), db.clone());
    let service = layer.layer(service_fn(move |asked: WithClaim<u8, D::Store, Vec<u8>>| {
        let (db, first) = (handles.clone(), counter.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            let value = vec![7; if first { LARGEST + 1 } else { 1 }];
            let mut tx = db.begin().await;
            match asked.claim.complete_in(&mut tx, &value).await {
                Ok(()) => db.commit(tx).await,
                Err(error) => {
                    db.rollback(tx).await;
                    return Err(BoxError::from(error));
                }
            }
            Ok(value)
        }
    }));
    let error = service.clone().oneshot(7).await.unwrap_err();
    assert!(error.to_string().contains("at most 16777216 are allowed"), "{error}");
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(7).await.unwrap(), [7]);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

/// The check that an async block is `Send` forgets that a boxed service is `'static`.
async fn a_boxed_service_over_a_store_runs_in_a_task<D: Db>(db: D) {
    let inner = service_fn(async |number: u8| Ok::<_, BoxError>(vec![number]));
    let layer = IdempotencyLayer::new(Config::new(), db.store().clone(), BY_NUMBER).unwrap();
    let service = layer.layer(BoxCloneService::new(inner));
    let answer = tokio::spawn(async move { service.oneshot(7).await }).await.unwrap();
    assert_eq!(answer.unwrap(), [7]);
    let store = db.store().clone();
    let layer = IdempotencyLayer::transactional(Config::new(), store, BY_NUMBER).unwrap();
    let inner = service_fn(async |asked: WithClaim<u8, D::Store, Vec<u8>>| {
        Ok::<_, BoxError>(vec![asked.request])
    });
    let service = layer.layer(BoxCloneSyncService::new(inner));
    let answer = tokio::spawn(async move { service.oneshot(8).await }).await.unwrap();
    assert_eq!(answer.unwrap(), [8]);
}
