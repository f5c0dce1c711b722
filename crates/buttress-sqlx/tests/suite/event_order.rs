//! The order of all events on PostgreSQL: transactions elsewhere on the server, dumps, replicas.

use std::collections::HashSet;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::event_store::{
    Append, AppendError, Expected, Filter, NewBatch, Position, Store, Version,
};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::cluster::Cluster;
use crate::db::{Db, Postgres, SECOND, on_postgres};
use crate::events::{event, order};

pub(crate) async fn positions(store: &PostgresStore) -> Vec<u128> {
    let page = store.read_all(Position::START, &Filter::all(), 10_000).await.unwrap();
    for (position, one) in (1..).zip(&page.events) {
        assert_eq!(one.position.get(), position);
    }
    page.events.iter().map(|one| one.event.id.get()).collect()
}

pub(crate) async fn place(store: &PostgresStore, ids: std::ops::RangeInclusive<u128>) {
    for id in ids {
        let batch = NewBatch::new(order(id as u32), Expected::New, vec![event(id)]);
        store.append_batch(&batch).await.unwrap();
    }
}

#[tokio::test]
async fn events_6_6_a_transaction_anywhere_on_the_server_delays_no_event() {
    on_postgres("events_6_6", async |db: Postgres| {
        // In another database, with its own number.
        let (_, server) = db.url.rsplit_once('/').map(|(server, name)| (name, server)).unwrap();
        let mut elsewhere = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        let mut other = elsewhere.begin().await.unwrap();
        sqlx::query("SELECT pg_current_xact_id()").execute(&mut *other).await.unwrap();
        // In this database, with an event.
        let mut open = db.begin().await;
        let batch = NewBatch::new(order(1000), Expected::New, vec![event(1000)]);
        db.store.append_in(&mut open, &batch).await.unwrap();
        for id in 1..=20 {
            place(&db.store, id..=id).await;
            assert_eq!(positions(&db.store).await, (1..=id).collect::<Vec<_>>());
        }
        db.commit(open).await;
        assert_eq!(positions(&db.store).await, (1..=20).chain([1000]).collect::<Vec<_>>());
        other.rollback().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn events_6_6_the_age_of_an_event_without_a_position_is_told() {
    on_postgres("events_6_6_age", async |db: Postgres| {
        place(&db.store, 1..=2).await;
        db.time().advance(3 * SECOND);
        place(&db.store, 3..=3).await;
        let stats = db.store.event_stats().await.unwrap();
        assert_eq!((stats.last, stats.unsequenced_age), (0, 3 * SECOND));
        // A transaction that holds the lock of the counter and has stopped.
        let mut stopped = db.begin().await;
        let lock = db.sql("SELECT 1 FROM {s}buttress_event_counter FOR UPDATE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *stopped).await.unwrap();
        let patience = Duration::from_millis(50);
        let impatient = PostgresStore::open(db.config().lock_timeout(patience)).await.unwrap();
        assert_eq!(positions(&impatient).await, [0; 0], "readers get what has a position");
        db.time().advance(2 * SECOND);
        let stats = db.store.event_stats().await.unwrap();
        assert_eq!(stats.unsequenced_age, 5 * SECOND);
        db.rollback(stopped).await;
        assert_eq!(positions(&impatient).await, [1, 2, 3]);
        assert!(db.store.event_stats().await.unwrap().unsequenced_age.is_zero());
    })
    .await;
}

/// The number of the next transaction of a server.
async fn next_transaction(pool: &PgPool) -> u64 {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    let next: String = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
    next.parse().unwrap()
}

/// A dump that was taken while some events had no position yet, restored into clusters whose next transaction is
/// earlier than all of the dump, in the midst of them, and later.
#[tokio::test]
async fn events_6_13_after_a_dump_and_a_restore_every_event_is_there_once_in_the_same_order() {
    const TEST: &str = "events_6_13";
    let Some(source) = Cluster::create(TEST) else { return };
    // The dump has later transactions than a new cluster.
    source.start();
    let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&source.url()).unwrap();
    let new = next_transaction(&pool).await;
    pool.close().await;
    source.stop();
    source.set_next_transaction(new + 60);
    source.start();
    let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&source.url()).unwrap();
    let config = |cluster: &Cluster| PostgresConfig::new(cluster.url()).schema("s").connections(2);
    let store = PostgresStore::open(config(&source)).await.unwrap();
    let first = next_transaction(&pool).await;
    // One transaction begins early and commits late.
    let mut late = pool.begin().await.unwrap();
    let batch = NewBatch::new(order(1000), Expected::New, vec![event(1000)]);
    store.append_in(&mut late, &batch).await.unwrap();
    place(&store, 1..=30).await;
    let sequenced = positions(&store).await;
    assert_eq!(sequenced.len(), 30);
    let middle = next_transaction(&pool).await;
    late.commit().await.unwrap();
    place(&store, 31..=60).await;
    let last = next_transaction(&pool).await;
    let dump = source.dump("s");
    store.close().await;

    for (name, next) in [
        ("earlier", None),
        ("among those with a position", Some((first + middle) / 2)),
        ("among those without", Some((middle + last) / 2)),
        ("later", Some(last + 100)),
    ] {
        let target = Cluster::create(TEST).unwrap();
        if let Some(next) = next {
            target.set_next_transaction(next);
        }
        target.start();
        target.restore(&dump);
        let store = PostgresStore::open(config(&target)).await.unwrap();
        let found = positions(&store).await;
        assert_eq!(found[..30], sequenced, "{name}: the same order");
        assert_eq!(found.len(), 61, "{name}");
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), 61, "{name}");
        // New events come after, through all numbers of transactions that the dump has.
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(&target.url()).unwrap();
        let mut expected = found;
        for id in 2000.. {
            place(&store, id..=id).await;
            expected.push(id);
            if id % 10 == 0 {
                let another = PostgresStore::open(config(&target)).await.unwrap();
                assert_eq!(positions(&another).await, expected, "{name}");
                another.close().await;
                if next_transaction(&pool).await > last + 20 {
                    break;
                }
            }
        }
        // A stream of the dump continues at its version.
        let wrong = NewBatch::new(order(1), Expected::New, vec![event(9000)]);
        let refused = store.append_batch(&wrong).await.unwrap_err();
        assert!(
            matches!(refused, AppendError::Conflict { actual, .. } if actual == Version::new(1))
        );
        store.close().await;
    }
}

#[tokio::test]
async fn events_6_5_a_replica_reads_and_gives_no_positions() {
    const TEST: &str = "events_6_5_replica";
    let Some(primary) = Cluster::create(TEST) else { return };
    primary.start();
    let config = |cluster: &Cluster| PostgresConfig::new(cluster.url()).schema("s").connections(2);
    let store = PostgresStore::open(config(&primary)).await.unwrap();
    place(&store, 1..=3).await;
    assert_eq!(positions(&store).await, [1, 2, 3]);
    place(&store, 4..=4).await;
    let replica = primary.replicate();
    // It has the fourth event, without a position.
    let reader = PostgresStore::open(config(&replica)).await.unwrap();
    let stream = reader.read_stream(&order(4), Version::START, 9).await.unwrap();
    assert_eq!(stream.events.len(), 1);
    assert_eq!(positions(&reader).await, [1, 2, 3]);
    assert_eq!(positions(&store).await, [1, 2, 3, 4]);
    let caught_up = async {
        while positions(&reader).await != [1, 2, 3, 4] {
            Clock::default().sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(60 * SECOND, caught_up).await.expect("the replica follows");
    reader.close().await;
    store.close().await;
}
