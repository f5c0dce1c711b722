//! Behaviour of PostgreSQL alone.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::idempotency::{self, ClaimId, Claimed, CompleteIn, Completion, Key, KeyClaim};
use buttress_durable::outbox::{
    Lease, MessageId, NewMessage, RelayId, Renewal, Settled, Store as _, Verdict, Write,
};
use buttress_durable::saga::{Store, WorkerId};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::db::{
    Db, Postgres, SECOND, concurrently, drop_schema, fresh_schema, on_postgres, postgres_url,
};
use crate::sagas::{append, new_saga};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_schema_at_once_and_again() {
    let Some(url) = postgres_url("many_open_a_new_schema_at_once_and_again").await else { return };
    let schema = fresh_schema();
    let config = PostgresConfig::new(&url).schema(&schema).connections(2);
    let opened = concurrently(6, || PostgresStore::open(config.clone())).await;
    assert!(opened.iter().all(|store| store.partitions() == 16));
    drop(opened);
    let error = PostgresStore::open(config.clone().partitions(4)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    let pool = PgPool::connect(&url).await.unwrap();
    let sql = format!("UPDATE \"{schema}\".buttress_schema SET value = 10 WHERE name = 'version'");
    sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    let error = PostgresStore::open(config).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("version 10"), "{error}");
    drop_schema(&pool, &schema).await;
}

#[tokio::test]
async fn what_cannot_be_opened() {
    for url in ["not a url", "postgres://"] {
        let error = PostgresStore::open(PostgresConfig::new(url).schema("")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
    // No server listens on this port.
    let config = PostgresConfig::new("postgres://postgres@127.0.0.1:1/test");
    let error = PostgresStore::open(config.operation_timeout(SECOND)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

/// Ends every connection to the test's tables except the one that asks. It finds the connections of
/// this store by their last statement.
async fn end_connections(db: &Postgres) -> i64 {
    let sql = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%') AS ended";
    sqlx::query_scalar(sql).bind(&db.schema).fetch_one(&db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_ended_are_made_anew() {
    on_postgres("connections_that_are_ended_are_made_anew", async |db: Postgres| {
        let store = db.store.clone();
        let key = Key::new("k").unwrap();
        let saga = new_saga(WorkerId::new(1));
        store.create(saga.clone()).await.unwrap();
        let mut position = 1;
        for round in 0..5u128 {
            idempotency::Store::claim(&store, KeyClaim::new(&key, ClaimId::new(1)), SECOND)
                .await
                .unwrap();
            store.load(saga.id).await.unwrap();
            assert!(end_connections(&db).await > 0, "round {round}");
            // Each operation may fail once or twice with a transient error, and then succeeds. The
            // content identifies a write whose answer was lost.
            let mut failures = 0;
            loop {
                match store.append(append(saga.id, 1, position)).await {
                    Ok(_) => break,
                    Err(error) => {
                        assert!(error.is_transient(), "{error}");
                        failures += 1;
                        assert!(failures < 5);
                    }
                }
            }
            position += 1;
            let mut failures = 0;
            loop {
                match store.load(saga.id).await {
                    Ok(record) => {
                        assert_eq!(record.unwrap().entries.len() as u64, position);
                        break;
                    }
                    Err(error) => {
                        assert!(error.is_transient(), "{error}");
                        failures += 1;
                        assert!(failures < 10);
                    }
                }
            }
            let claimed = loop {
                let asked =
                    idempotency::Store::claim(&store, KeyClaim::new(&key, ClaimId::new(1)), SECOND)
                        .await;
                match asked {
                    Ok(claimed) => break claimed,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            };
            assert_eq!(claimed, Claimed::Owned);
        }
    })
    .await;
}

/// Ends connections at random moments under load. Every write that returned `Ok` is there, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_connections_end_in_the_middle() {
    on_postgres("nothing_is_lost_when_connections_end_in_the_middle", async |db: Postgres| {
        let store = db.store.clone();
        let mut load = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let store = store.clone();
            load.spawn(async move {
                let saga = new_saga(WorkerId::new(1));
                let id = saga.id;
                while let Err(error) = store.create(saga.clone()).await {
                    assert!(error.is_transient(), "{error}");
                }
                for position in 1..=40 {
                    while let Err(error) = store.append(append(id, 1, position)).await {
                        assert!(error.is_transient(), "{error}");
                    }
                }
                id
            });
        }
        let mut ended = 0;
        let mut sagas = Vec::new();
        while !load.is_empty() {
            match tokio::time::timeout(Duration::from_millis(20), load.join_next()).await {
                Ok(done) => sagas.extend(done.map(Result::unwrap)),
                Err(_) if ended < 40 => ended += end_connections(&db).await,
                Err(_) => {}
            }
        }
        for id in sagas {
            let record = loop {
                match store.load(id).await {
                    Ok(record) => break record.unwrap(),
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            };
            assert_eq!(record.entries.len(), 41);
        }
    })
    .await;
}

/// Returns the store, and a relay that owns all partitions.
async fn relaying(db: &Postgres) -> (PostgresStore, RelayId, Vec<Lease>) {
    let (store, relay) = (db.store.clone(), RelayId::new(1));
    let leased = store.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap();
    (store, relay, leased.leases)
}

/// The plan of the scan: ordered index scans of each partition, merged, and a sort of the found
/// rows only. Another form of the statement was three times slower.
#[tokio::test]
async fn the_scan_is_an_ordered_merge_of_index_scans() {
    on_postgres("the_scan_is_an_ordered_merge_of_index_scans", async |db: Postgres| {
        let (store, relay, leases) = relaying(&db).await;
        // A queue in the middle of its work: most messages delivered, no statistics.
        db.execute(
            "INSERT INTO {s}buttress_outbox (id, partition, key, topic, payload, status, due_at, \
             settled_at) SELECT gen_random_uuid(), n % 16, 'key ' || n % 1000, '', 'payload', \
             CASE WHEN n <= 45000 THEN 2 ELSE 0 END, 0, 0 FROM generate_series(1, 50000) AS n",
        )
        .await;
        db.execute(
            "INSERT INTO {s}buttress_outbox_hold SELECT n % 16, 'key ' || n, n, 9e18::int8 \
             FROM generate_series(1, 500) AS n",
        )
        .await;
        for analyzed in [false, true] {
            if analyzed {
                db.execute("ANALYZE {s}buttress_outbox").await;
                db.execute("ANALYZE {s}buttress_outbox_hold").await;
            }
            let plan = store.explain_fetch(&leases, 500).await.unwrap();
            assert_eq!(plan.matches("using buttress_outbox_pending on").count(), 16, "{plan}");
            assert!(plan.contains("Merge Append"), "{plan}");
            assert!(!plan.contains("Seq Scan on buttress_outbox"), "{plan}");
            // Only the found rows are sorted, and no subplan runs for each of them.
            assert!(!plan.contains("loops=500"), "{plan}");
            // Rows that the scans touched beyond the returned ones: rows of held keys, and one row
            // for each partition that was read and not needed.
            let scanned: f64 = plan
                .lines()
                .filter(|line| line.contains("using buttress_outbox_pending on"))
                .map(|line| {
                    let actual = line.split("(actual").nth(1).unwrap_or_default();
                    let rows = actual.split("rows=").nth(1).unwrap_or("0");
                    rows.split(' ').next().unwrap().parse::<f64>().unwrap()
                })
                .sum();
            assert!((500.0..=516.0).contains(&scanned), "{scanned} rows\n{plan}");
        }
        let found = store.fetch(relay, &leases, 500).await.unwrap().messages;
        assert_eq!(found.len(), 500);
        assert!(found.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    })
    .await;
}

/// The plan of settling deliveries of messages that no statistics contain yet: the number finds
/// each message. Found by the benchmark of the relay: the planner used the index of pending
/// messages, whose first column is another one. It read the whole index for each of 500 messages.
#[tokio::test]
async fn deliveries_are_looked_up_by_their_number() {
    on_postgres("deliveries_are_looked_up_by_their_number", async |db: Postgres| {
        let (store, relay, leases) = relaying(&db).await;
        db.execute(
            "INSERT INTO {s}buttress_outbox (id, partition, key, topic, payload, status, due_at) \
             SELECT gen_random_uuid(), n % 16, 'key ' || n % 1000, '', 'payload', 0, 0 \
             FROM generate_series(1, 20000) AS n",
        )
        .await;
        let found = store.fetch(relay, &leases, 500).await.unwrap().messages;
        let delivered: Vec<Settled> = found
            .into_iter()
            .map(|message| {
                let lease = leases[usize::from(message.partition)];
                Settled::new(&message, lease, Verdict::Delivered)
            })
            .collect();
        for analyzed in [false, true] {
            if analyzed {
                db.execute("ANALYZE {s}buttress_outbox").await;
            }
            let plan = store.explain_settle(&delivered).await.unwrap();
            assert!(plan.contains("using buttress_outbox_pkey on"), "{plan}");
            assert!(!plan.contains("buttress_outbox_pending"), "{plan}");
        }
        assert!(store.settle(delivered).await.unwrap().is_empty());
        assert_eq!(store.backlog().await.unwrap().pending, 19_500);
    })
    .await;
}

/// A user's transaction that completes a claim locks its row until it ends. No other caller waits
/// for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_do_not_wait_for_a_transaction_that_completes_one() {
    on_postgres("claims_do_not_wait_for_a_transaction", async |db: Postgres| {
        use idempotency::Store as Claims;
        // A wait for a lock would take a minute.
        let patient = db.config().lock_timeout(60 * SECOND).operation_timeout(60 * SECOND);
        let store = PostgresStore::open(patient).await.unwrap();
        let (key, other) = (Key::new("busy").unwrap(), Key::new("free").unwrap());
        let (mine, theirs) = (ClaimId::new(1), ClaimId::new(2));
        Claims::claim(&store, KeyClaim::new(&key, mine), 10 * SECOND).await.unwrap();
        let mut tx = db.begin().await;
        store
            .complete_in(
                &mut tx,
                Completion::new(KeyClaim::new(&key, mine), &b"x".to_vec(), 60 * SECOND),
            )
            .await
            .unwrap();
        let before = std::time::Instant::now();
        let claimed =
            Claims::claim(&store, KeyClaim::new(&key, theirs), 10 * SECOND).await.unwrap();
        assert_eq!(claimed, Claimed::InFlight { lease_left: 10 * SECOND });
        // Not fenced: its own transaction is completing it.
        assert!(
            Claims::renew_claim(&store, KeyClaim::new(&key, mine), 10 * SECOND)
                .await
                .unwrap_err()
                .is_transient()
        );
        assert!(
            Claims::release_claim(&store, KeyClaim::new(&key, mine))
                .await
                .unwrap_err()
                .is_transient()
        );
        db.time().advance(10 * SECOND);
        let claimed =
            Claims::claim(&store, KeyClaim::new(&key, theirs), 10 * SECOND).await.unwrap();
        assert_eq!(claimed, Claimed::InFlight { lease_left: Duration::ZERO });
        let claimed =
            Claims::claim(&store, KeyClaim::new(&other, theirs), 10 * SECOND).await.unwrap();
        assert_eq!(claimed, Claimed::Owned);
        assert!(before.elapsed() < 30 * SECOND, "no caller waited for a lock");
        db.commit(tx).await;
        let claimed =
            Claims::claim(&store, KeyClaim::new(&key, theirs), 10 * SECOND).await.unwrap();
        assert_eq!(claimed, Claimed::Done(b"x".to_vec()));
    })
    .await;
}

/// With the key locked, the second transaction writes only after the first has committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_key_orders_overlapping_transactions() {
    on_postgres("a_locked_key_orders_overlapping_transactions", async |db: Postgres| {
        let store = db.store.clone();
        let mut first = db.begin().await;
        store.lock_key(&mut first, "k").await.unwrap();
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *first);
        let pid: i32 = pid.await.unwrap();
        let second = tokio::spawn({
            let (db, store) = (db.clone(), store.clone());
            async move {
                let mut tx = db.begin().await;
                store.lock_key(&mut tx, "k").await.unwrap();
                store.write(&mut tx, &NewMessage::new(MessageId::new(2), "k", "2")).await.unwrap();
                db.commit(tx).await;
            }
        });
        // Another key does not wait.
        let mut other = db.begin().await;
        store.lock_key(&mut other, "l").await.unwrap();
        db.rollback(other).await;
        // The second transaction waits behind it.
        let behind =
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))";
        while !sqlx::query_scalar::<_, bool>(behind).bind(pid).fetch_one(&db.pool).await.unwrap() {}
        assert!(!second.is_finished());
        store.write(&mut first, &NewMessage::new(MessageId::new(1), "k", "1")).await.unwrap();
        db.commit(first).await;
        second.await.unwrap();
        let leases = store
            .lease_partitions(Renewal::new(RelayId::new(1), SECOND, &[]))
            .await
            .unwrap()
            .leases;
        let found = store.fetch(RelayId::new(1), &leases, 9).await.unwrap().messages;
        assert_eq!(found.iter().map(|m| m.id.get()).collect::<Vec<_>>(), [1, 2]);
    })
    .await;
}

/// A message whose sequence was drawn early and that was committed late is delivered nevertheless.
#[tokio::test]
async fn a_late_commit_is_not_passed_over() {
    on_postgres("a_late_commit_is_not_passed_over", async |db: Postgres| {
        let store = db.store.clone();
        let relay = RelayId::new(1);
        let leases =
            store.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap().leases;
        let mut slow = db.begin().await;
        store.write(&mut slow, &NewMessage::new(MessageId::new(1), "a", "x")).await.unwrap();
        db.write(vec![NewMessage::new(MessageId::new(2), "a", "y")]).await;
        let found = store.fetch(relay, &leases, 9).await.unwrap().messages;
        assert_eq!(found.iter().map(|m| m.id.get()).collect::<Vec<_>>(), [2]);
        db.commit(slow).await;
        let found = store.fetch(relay, &leases, 9).await.unwrap().messages;
        assert_eq!(found.iter().map(|m| m.id.get()).collect::<Vec<_>>(), [1, 2]);
    })
    .await;
}

/// Without a clock of a test, time is the database's, and advances within a transaction.
#[tokio::test]
async fn time_is_the_databases() {
    on_postgres("time_is_the_databases", async |db: Postgres| {
        let config = PostgresConfig::new(&db.url).schema(&db.schema).connections(2);
        let store = PostgresStore::open(config).await.unwrap();
        let relay = RelayId::new(1);
        let leases =
            store.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap().leases;
        let mut tx = db.begin().await;
        for n in 1..=2 {
            store.write(&mut tx, &NewMessage::new(MessageId::new(n), "a", "x")).await.unwrap();
        }
        db.commit(tx).await;
        let fetched = store.fetch(relay, &leases, 9).await.unwrap();
        let due: Vec<_> = fetched.messages.iter().map(|message| message.due_at).collect();
        assert!(due[1] > due[0], "not the time of the transaction, which is constant");
        assert!(fetched.now > due[1]);
        let row = sqlx::query("SELECT extract(epoch FROM clock_timestamp())::float8")
            .fetch_one(&db.pool)
            .await
            .unwrap();
        let now = Duration::from_secs_f64(row.get(0));
        assert!(now.abs_diff(fetched.now) < 60 * SECOND);
        store.close().await;
    })
    .await;
}
