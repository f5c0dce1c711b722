//! Recoveries without an answer: the answer to a take-over is lost, or the future of `recover` is
//! dropped. The next recovery adopts the sagas, and no step runs twice.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{
    Beginning, Call, Config, Definition, Executor, NewSaga, SagaId, Status, Store, WorkerId,
};
use tower::{BoxError, service_fn};

use crate::db::{Db, SECOND, on_each_database, rng};
use crate::executors::Bytes;

on_each_database! {
    a_recovery_dropped_after_any_poll_loses_no_saga
}

const SAGAS: usize = 3;

/// How many times the step of each saga was called.
type Calls = Arc<Mutex<BTreeMap<SagaId, u32>>>;

fn worker<St: Store<Vec<u8>>>(store: St, calls: &Calls) -> Executor<u32, Bytes, St> {
    let mut saga = Definition::<u32>::builder("order", 3).codec(Bytes);
    let counted = calls.clone();
    let done = service_fn(move |call: Call<u32>| {
        *counted.lock().unwrap().entry(call.key().saga()).or_default() += 1;
        async { Ok::<u32, BoxError>(1) }
    });
    saga.step("step").action((), done, |input: &u32, ()| *input).add();
    Executor::new(saga.build().unwrap(), store, Config::new()).unwrap()
}

/// Sagas of a worker without a lease, whose step has not begun.
async fn orphans(store: &impl Store<Vec<u8>>) -> Vec<SagaId> {
    let gone = WorkerId::random(&rng());
    let mut ids = Vec::new();
    for _ in 0..SAGAS {
        let beginning = Beginning::new(7_u32.to_be_bytes().to_vec());
        let id = SagaId::random(&rng());
        let saga = NewSaga::new(id, ("order", 3), "bytes", gone, beginning);
        store.create(saga.clone()).await.unwrap();
        ids.push(saga.id);
    }
    ids
}

/// Recovers until the sagas have ended. Each step has run once.
async fn adopted<St: Store<Vec<u8>> + Clone>(
    sagas: &Executor<u32, Bytes, St>,
    store: &St,
    calls: &Calls,
    ids: &[SagaId],
    what: &str,
) {
    sagas.recover().await.unwrap();
    let give_up = Clock::default().now() + Duration::from_secs(60);
    while sagas.stats().active > 0 {
        assert!(Clock::default().now() < give_up, "{what}: still running");
        Clock::default().sleep(Duration::from_millis(1)).await;
    }
    for id in ids {
        let record = store.load(*id).await.unwrap().unwrap();
        assert_eq!(record.status, Status::Completed, "{what}: {record:?}");
        assert_eq!(calls.lock().unwrap().get(id), Some(&1), "{what}");
    }
}

/// Polls `future` up to `polls` times, and drops it. Returns whether it ended.
async fn polled(future: impl Future, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn a_recovery_dropped_after_any_poll_loses_no_saga<D: Db>(db: D) {
    for polls in 1..200 {
        let calls = Calls::default();
        let sagas = worker(db.store().clone(), &calls);
        let ids = orphans(db.store()).await;
        let ended = polled(sagas.recover(), polls).await;
        adopted(&sagas, db.store(), &calls, &ids, &format!("dropped after poll {polls}")).await;
        sagas.shut_down().await.unwrap();
        if ended {
            // A busy machine makes several answers ready for one poll.
            assert!(polls > 1, "no recovery was dropped");
            return;
        }
    }
    panic!("a recovery of {SAGAS} sagas has 200 polls");
}

#[cfg(feature = "postgres")]
mod cut {
    use buttress_sqlx::{PostgresConfig, PostgresStore};

    use super::*;
    use crate::db::{Postgres, on_postgres};
    use crate::proxy::Proxy;

    async fn through(db: &Postgres, proxy: &Proxy) -> PostgresStore {
        let config = PostgresConfig::with_options(proxy.options(&db.url, &db.schema));
        let config = config.schema(&db.schema).operation_timeout(10 * SECOND);
        PostgresStore::open(config.clock(db.time().clock())).await.unwrap()
    }

    /// The database commits, and the connection closes before the answer.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_take_over_whose_commit_was_answered_on_a_cut_connection_is_adopted() {
        on_postgres("a_take_over_whose_commit", async |db: Postgres| {
            let proxy = Proxy::to(&db.url).await;
            let store = through(&db, &proxy).await;
            let calls = Calls::default();
            let sagas = worker(store.clone(), &calls);
            // A lease, prepared statements, and a session.
            assert!(sagas.recover().await.unwrap().resumed.is_empty());
            let ids = orphans(&db.store).await;
            proxy.hold_after("COMMIT");
            let taken_over = async {
                proxy.holds().await;
                let owned = async || {
                    let mut epochs = 0;
                    for id in &ids {
                        epochs += db.store.load(*id).await.unwrap().unwrap().epoch;
                    }
                    epochs == 2 * SAGAS as u64
                };
                while !owned().await {}
                proxy.cut();
            };
            let (recovered, ()) = tokio::join!(sagas.recover(), taken_over);
            let error = recovered.unwrap_err();
            assert!(error.is_transient(), "{error}");
            assert_eq!(sagas.stats().active, 0, "nothing runs here yet");
            adopted(&sagas, &db.store, &calls, &ids, "after the cut").await;
            sagas.shut_down().await.unwrap();
            store.close().await;
        })
        .await;
    }

    /// At any cut of the connections of a recovery, its next call finds every saga.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_recovery_whose_connections_are_cut_at_any_word_loses_no_saga() {
        on_postgres("a_recovery_whose_connections", async |db: Postgres| {
            let proxy = Proxy::to(&db.url).await;
            let store = through(&db, &proxy).await;
            for word in ["BEGIN", "COMMIT"] {
                let calls = Calls::default();
                let sagas = worker(store.clone(), &calls);
                let ids = orphans(&db.store).await;
                proxy.hold_after(word);
                let cutting = async {
                    proxy.holds().await;
                    proxy.cut();
                };
                tokio::select! {
                    _ = async { tokio::join!(sagas.recover(), cutting) } => {}
                    () = Clock::default().sleep(15 * SECOND) => proxy.release(),
                }
                adopted(&sagas, &db.store, &calls, &ids, word).await;
                sagas.shut_down().await.unwrap();
            }
            store.close().await;
        })
        .await;
    }
}
