//! Connections of a store on PostgreSQL: which are lent again, which are closed, and how long a
//! call waits.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::idempotency::{self, ClaimId, CompleteIn, Completion, Key, KeyClaim};
use buttress_durable::outbox::{
    Inbox, MessageId, NewMessage, RelayId, Renewal, Settled, Store as _, Verdict, Write,
};
use buttress_durable::saga::{Barrier as _, SagaId, Store as _, WorkerId};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::postgres::PgPool;
use sqlx::{Postgres as Pg, Transaction};

use crate::db::{Db, Postgres, SECOND, on_postgres};
use crate::proxy::Proxy;
use crate::sagas::new_saga;

/// A busy machine does not miss it.
const LIMIT: Duration = Duration::from_secs(10);

fn message(id: u128) -> NewMessage {
    NewMessage::new(MessageId::new(id), "k", "x")
}

/// Waits for `future` up to the operation timeout.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("within the operation timeout")
}

/// Runs `scenario` with a store on a new schema, whose connections go through a proxy.
async fn through_a_proxy<F: Future<Output = ()> + Send + 'static>(
    test: &str,
    connections: u32,
    scenario: impl FnOnce(Postgres, Proxy, PostgresStore) -> F + Send + 'static,
) {
    on_postgres(test, move |db: Postgres| async move {
        let proxy = Proxy::to(&db.url).await;
        let config = PostgresConfig::with_options(proxy.options(&db.url, &db.schema));
        let config = config.schema(&db.schema).connections(connections).operation_timeout(LIMIT);
        let store = PostgresStore::open(config.clock(db.time().clock())).await.unwrap();
        scenario(db, proxy, store.clone()).await;
        store.close().await;
    })
    .await;
}

/// Waits until this many sessions called `name` are in a transaction and wait for their client.
async fn in_transaction(pool: &PgPool, name: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE application_name = $1 AND state LIKE 'idle in transaction%'";
    sqlx::query_scalar(sql).bind(name).fetch_one(pool).await.unwrap()
}

async fn until_in_transaction(db: &Postgres, sessions: i64) {
    let waiting = async { while in_transaction(&db.pool, &db.schema).await != sessions {} };
    let waited = tokio::time::timeout(60 * SECOND, waiting).await;
    assert!(waited.is_ok(), "sessions in a transaction, where {sessions} should be");
}

/// Writes a message and makes it a dead letter; returns its id.
async fn dead_letter(db: &Postgres) -> MessageId {
    db.write(vec![message(1)]).await;
    let relay = RelayId::new(1);
    let leases =
        db.store.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap().leases;
    let found = db.store.fetch(relay, &leases, 1).await.unwrap().messages.remove(0);
    let verdict = Verdict::Dead { error: "poison".to_owned(), hold_key: true };
    let settled = Settled::new(&found, leases[usize::from(found.partition)], verdict);
    assert!(db.store.settle(vec![settled]).await.unwrap().is_empty());
    found.id
}

/// Drops `begin` between BEGIN and its answer. The store's acknowledged operations then stay
/// committed, and no session stays in a transaction. `discard` once returned `Ok(1)` within the
/// transaction that was left open.
async fn dropped(
    db: &Postgres,
    proxy: &Proxy,
    store: &PostgresStore,
    begin: impl Future<Output = ()>,
) {
    let id = dead_letter(db).await;
    proxy.hold_after("BEGIN");
    tokio::select! {
        () = begin => panic!("its answer is held"),
        () = until_in_transaction(db, 1) => {}
    }
    proxy.release();
    assert_eq!(store.discard(&[id]).await.unwrap(), 1);
    until_in_transaction(db, 0).await;
    assert!(
        db.store.dead_letters(0, 9).await.unwrap().is_empty(),
        "the acknowledged operation is committed"
    );
    let mut tx = store.begin().await.unwrap();
    store.write(&mut tx, &message(2)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.store.backlog().await.unwrap().pending, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begin_dropped_while_it_waits_leaves_no_transaction() {
    through_a_proxy("begin_dropped_while_it_waits", 1, async |db, proxy, store| {
        drop(store.begin().await.unwrap());
        let begin = async { drop(store.begin().await) };
        dropped(&db, &proxy, &store, begin).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_of_the_stores_pool_dropped_while_it_waits_leaves_no_transaction() {
    through_a_proxy("a_begin_of_the_stores_pool_dropped", 1, async |db, proxy, store| {
        drop(store.begin().await.unwrap());
        let begin = async { drop(store.pool().begin().await) };
        dropped(&db, &proxy, &store, begin).await;
    })
    .await;
}

/// An operation that is dropped in the middle of its transaction releases its locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_dropped_while_it_waits_leaves_no_transaction() {
    through_a_proxy("an_operation_dropped_while_it_waits", 1, async |db, proxy, store| {
        // The statements are prepared, so that the next message with one is its execution.
        store.lease_partitions(Renewal::new(RelayId::new(7), SECOND, &[])).await.unwrap();
        for word in ["BEGIN", "COMMIT"] {
            proxy.hold_after(word);
            let lease = store.lease_partitions(Renewal::new(RelayId::new(7), SECOND, &[]));
            let held = async {
                if word == "BEGIN" {
                    until_in_transaction(&db, 1).await;
                } else {
                    proxy.holds().await;
                }
            };
            tokio::select! {
                _ = lease => panic!("its answer is held"),
                () = held => {}
            }
            proxy.release();
            until_in_transaction(&db, 0).await;
            soon(db.store.lease_partitions(Renewal::new(RelayId::new(8), SECOND, &[])))
                .await
                .unwrap();
            soon(store.lease_partitions(Renewal::new(RelayId::new(7), SECOND, &[]))).await.unwrap();
        }
    })
    .await;
}

/// Their places once came back only when the system closed the sockets, after 15 minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_dropped_on_dead_sockets_leave_their_places() {
    through_a_proxy("transactions_dropped_on_dead_sockets", 2, async |_, proxy, store| {
        for round in 0..3u128 {
            let mut open = [store.begin().await.unwrap(), store.begin().await.unwrap()];
            for (n, tx) in (1..).zip(&mut open) {
                store.write(tx, &message(10 * round + n)).await.unwrap();
            }
            store.backlog().await.unwrap();
            proxy.silence();
            drop(open);
            let (first, second) = soon(async { tokio::join!(store.begin(), store.begin()) }).await;
            soon(store.lease_partitions(Renewal::new(RelayId::new(1), SECOND, &[]))).await.unwrap();
            first.unwrap().commit().await.unwrap();
            second.unwrap().commit().await.unwrap();
        }
    })
    .await;
}

/// The same, where the system can take no more bytes of the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_dropped_behind_a_full_socket_leaves_its_place() {
    through_a_proxy("a_transaction_dropped_behind_a_full_socket", 1, async |_, proxy, store| {
        let mut tx = store.begin().await.unwrap();
        let length = "SELECT length($1::bytea)";
        sqlx::query(length).bind(vec![0_u8; 9]).execute(&mut *tx).await.unwrap();
        proxy.silence();
        let query = sqlx::query(length).bind(vec![0_u8; 64 << 20]).execute(&mut *tx);
        assert!(tokio::time::timeout(LIMIT / 10, query).await.is_err());
        drop(tx);
        soon(store.begin()).await.unwrap().commit().await.unwrap();
    })
    .await;
}

/// The pool has checked the connection, which answered. Its socket dies before BEGIN is answered.
/// The future of `begin` is dropped at its limit, and the pool replaces the connection when it
/// comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_dies_while_a_transaction_begins_leaves_its_place() {
    through_a_proxy("a_socket_that_dies_while_a_transaction_begins", 1, async |_, proxy, store| {
        drop(store.begin().await.unwrap());
        for _ in 0..2 {
            proxy.hold_after("BEGIN");
            let dying = async {
                proxy.holds().await;
                proxy.silence();
                proxy.release();
            };
            let (begun, ()) = tokio::join!(store.begin(), dying);
            assert!(begun.unwrap_err().is_transient());
            soon(store.begin()).await.unwrap().commit().await.unwrap();
        }
    })
    .await;
}

/// Calls wait for connections that died while idle only for a part of their time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_are_dead_are_replaced() {
    through_a_proxy("idle_connections_that_are_dead", 3, async |_, proxy, store| {
        let open = [store.begin().await.unwrap(), store.begin().await.unwrap()];
        let (one, two) = tokio::join!(store.backlog(), store.dead_letters(0, 1));
        one.unwrap();
        two.unwrap();
        for tx in open {
            tx.commit().await.unwrap();
        }
        let idle = async {
            while store.pool().num_idle() < 2 {
                tokio::task::yield_now().await;
            }
        };
        soon(idle).await;
        proxy.silence();
        soon(store.backlog()).await.unwrap();
        soon(store.lease_partitions(Renewal::new(RelayId::new(1), SECOND, &[]))).await.unwrap();
        for _ in 0..3 {
            soon(store.begin()).await.unwrap().commit().await.unwrap();
        }
    })
    .await;
}

/// The writers' connections died while idle. Each first batch once took the whole time of an
/// operation, and failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_were_idle_replace_their_connections() {
    through_a_proxy("writers_that_were_idle", 1, async |db, proxy, store| {
        let claim = async |key: &str| {
            let key = Key::new(key).unwrap();
            idempotency::Store::claim(&store, KeyClaim::new(&key, ClaimId::new(1)), SECOND).await
        };
        store.create(new_saga(WorkerId::new(1))).await.unwrap();
        claim("first").await.unwrap();
        // Idle for so long that the writers check them first.
        let idle = std::time::Instant::now();
        while idle.elapsed() < LIMIT / 4 {
            db.store.backlog().await.unwrap();
        }
        proxy.silence();
        soon(store.create(new_saga(WorkerId::new(1)))).await.unwrap();
        soon(claim("second")).await.unwrap();
    })
    .await;
}

type Tx = Transaction<'static, Pg>;

/// Every call of the store in a transaction ends with the operation timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_a_transaction_is_bounded() {
    through_a_proxy("a_call_in_a_transaction_is_bounded", 6, async |_, proxy, store| {
        let mut open: Vec<Tx> = Vec::new();
        for _ in 0..6 {
            open.push(store.begin().await.unwrap());
        }
        let [a, b, c, d, e, f] = &mut open[..] else { panic!("six") };
        proxy.silence();
        let (key, value, saga) = (Key::new("k").unwrap(), b"v".to_vec(), SagaId::new(1));
        let written = message(1);
        let all = async {
            tokio::join!(
                store.write(a, &written),
                store.lock_key(b, "k"),
                async { store.receive(c, "consumer", MessageId::new(1)).await.map(drop) },
                async { store.action(d, saga, "step").await.map(drop) },
                async { store.undo(e, saga, "step").await.map(drop) },
                store.complete_in(
                    f,
                    Completion::new(KeyClaim::new(&key, ClaimId::new(1)), &value, SECOND)
                ),
            )
        };
        let (a, b, c, d, e, f) = tokio::time::timeout(2 * LIMIT, all).await.expect("bounded");
        for ended in [a, b, c, d, e, f] {
            assert_eq!(ended.unwrap_err().kind(), StoreErrorKind::Transient);
        }
        // The beginning of a transaction ends with it too.
        drop(open);
        store.begin().await.unwrap().commit().await.unwrap();
        proxy.hold_after("BEGIN");
        let begun = tokio::time::timeout(2 * LIMIT, store.begin()).await.expect("bounded");
        assert!(begun.unwrap_err().is_transient());
        proxy.release();
        soon(store.begin()).await.unwrap().commit().await.unwrap();
    })
    .await;
}
