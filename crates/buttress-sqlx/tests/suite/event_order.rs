//! The order of all events on PostgreSQL: writers that hold and roll back, transactions elsewhere on the server, dumps.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress::{Clock, Rng};
use buttress_durable::event_store::{
    Append, AppendError, Expected, Filter, NewBatch, Ordered, Position, Store, StreamId, Version,
};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::cluster::Cluster;
use crate::db::{Db, Postgres, SECOND, on_postgres};
use crate::events::{event, order};

/// A scale of the torture test: `BUTTRESS_EVENTS` is the number of events.
fn wanted() -> u64 {
    std::env::var("BUTTRESS_EVENTS").map_or(3_000, |text| text.parse().expect("BUTTRESS_EVENTS"))
}

const WRITERS: u32 = 32;
/// Streams that several writers share.
const SHARED: u32 = 8;

/// One writer: transactions of one to four appends, some to streams of other writers too. They are held open for up to
/// half a second, a third is rolled back, some have savepoints, and some begin long before they append. Returns the
/// versions that it has committed, by stream.
async fn write(
    db: Postgres,
    writer: u32,
    until: u64,
    rng: Rng,
    committed: Arc<std::sync::atomic::AtomicU64>,
) -> Vec<(StreamId, u64, u128)> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy(&db.url).unwrap();
    let (mut mine, mut id) = (Vec::new(), u128::from(writer) << 64);
    'transactions: while committed.load(Ordering::Relaxed) < until {
        let mut tx = pool.begin().await.unwrap();
        if rng.between(0, 3) == 0 {
            // The transaction has its number long before it appends.
            sqlx::query("SELECT pg_current_xact_id()").execute(&mut *tx).await.unwrap();
            pause(&rng).await;
        }
        let mut written = Vec::new();
        let mut appends = rng.between(1, 4);
        let mut streams: Vec<u32> = (0..appends)
            .map(|_| {
                if rng.between(0, 1) == 0 {
                    1000 + writer
                } else {
                    rng.between(0, u64::from(SHARED) - 1) as u32
                }
            })
            .collect();
        // In one order, so that the writers do not deadlock.
        streams.sort_unstable();
        while let Some(of) = streams.pop() {
            appends -= 1;
            let savepoint = rng.between(0, 4) == 0;
            if savepoint {
                sqlx::query("SAVEPOINT s").execute(&mut *tx).await.unwrap();
            }
            let events: Vec<_> = (0..rng.between(1, 3))
                .map(|_| {
                    id += 1;
                    event(id)
                })
                .collect();
            let ids: Vec<u128> = events.iter().map(|event| event.id.get()).collect();
            let batch = NewBatch::new(order(of), Expected::Any, events);
            let appended = match db.store.append_in(&mut tx, &batch).await {
                // On a busy machine the queue of writers of one stream can be longer than the time limit.
                Err(AppendError::Store(error)) if error.is_transient() => {
                    tx.rollback().await.unwrap();
                    continue 'transactions;
                }
                appended => appended.unwrap(),
            };
            if savepoint && rng.between(0, 1) == 0 {
                sqlx::query("ROLLBACK TO s").execute(&mut *tx).await.unwrap();
            } else {
                for (version, id) in (appended.first.get()..).zip(ids) {
                    written.push((order(of), version, id));
                }
            }
        }
        assert_eq!(appends, 0);
        pause(&rng).await;
        if rng.between(0, 2) == 0 {
            tx.rollback().await.unwrap();
        } else {
            tx.commit().await.unwrap();
            committed.fetch_add(written.len() as u64, Ordering::Relaxed);
            mine.extend(written);
        }
    }
    mine
}

/// Mostly short, sometimes up to half a second.
async fn pause(rng: &Rng) {
    let most = if rng.between(0, 9) == 0 { 500 } else { 20 };
    Clock::default().sleep(Duration::from_millis(rng.between(0, most))).await;
}

/// Reads until the writers have ended and a page is empty.
async fn read(store: PostgresStore, limit: usize, is_over: Arc<AtomicBool>) -> Vec<Ordered> {
    let (mut seen, mut after) = (Vec::new(), Position::START);
    loop {
        let over = is_over.load(Ordering::SeqCst);
        let page = store.read_all(after, &Filter::all(), limit).await.unwrap();
        let is_empty = page.events.is_empty();
        for one in page.events {
            assert_eq!(one.position.get(), after.get() + 1, "positions have no gap");
            after = one.position;
            seen.push(one);
        }
        assert_eq!(page.through, after);
        if is_empty && over {
            return seen;
        }
        if is_empty {
            Clock::default().sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_6_5_every_reader_sees_every_event_once_while_writers_hold_and_roll_back() {
    on_postgres("events_6_5", async |db: Postgres| {
        let seed = std::env::var("BUTTRESS_SEED").ok().map(|text| text.parse().unwrap());
        let seed = seed.unwrap_or_else(|| Rng::default().next_u64());
        println!("BUTTRESS_SEED={seed}, {} events", wanted());
        let rng = Rng::seeded(seed);
        let is_over = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for limit in [7, 100, 1000] {
            // Each reader is another process, and gives positions too.
            let store = PostgresStore::open(db.config().connections(2)).await.unwrap();
            readers.push(tokio::spawn(read(store, limit, Arc::clone(&is_over))));
        }
        let committed = Arc::default();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let rng = Rng::seeded(rng.next_u64());
                tokio::spawn(write(db.clone(), writer, wanted(), rng, Arc::clone(&committed)))
            })
            .collect();
        let mut written = BTreeMap::new();
        for writer in writers {
            for (stream, version, id) in writer.await.unwrap() {
                let twice = written.insert((stream, version), id);
                assert_eq!(twice, None, "one event at a version");
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let mut seen = Vec::new();
        for reader in readers {
            seen.push(reader.await.unwrap());
        }
        let place = |one: &Ordered| (one.position.get(), one.event.id.get());
        for other in &seen[1..] {
            assert!(seen[0].iter().map(place).eq(other.iter().map(place)), "one order for all");
        }
        let all = &seen[0];
        assert_eq!(all.len(), written.len(), "0 missed, 0 twice");
        let mut versions: BTreeMap<StreamId, u64> = BTreeMap::new();
        for one in all {
            let event = &one.event;
            let version = versions.entry(event.stream.clone()).or_default();
            *version += 1;
            // events 6.15: the order of a stream is the order of its versions.
            assert_eq!(event.version.get(), *version, "{}", event.stream);
            let id = written.get(&(event.stream.clone(), event.version.get()));
            assert_eq!(id, Some(&event.id.get()));
        }
        let stats = db.store.event_stats().await.unwrap();
        assert_eq!((stats.last, stats.unsequenced_age), (all.len() as u64, Duration::ZERO));
    })
    .await;
}

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
    assert_eq!(stream.len(), 1);
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
