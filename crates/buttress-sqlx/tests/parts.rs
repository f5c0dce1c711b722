//! Stores of builds with different parts. Each test runs in every build with a database.
//!
//! `.ci/features` runs the builds with one part, and then the build with all, on the same file and
//! schema: `BUTTRESS_PARTS` is the file, and the name of the schema.
#![cfg(any(feature = "sqlite", feature = "postgres"))]
#![allow(clippy::disallowed_methods, reason = "a database takes real time")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

#[cfg(feature = "idempotency")]
use buttress::idempotency::{ClaimId, Claimed, Key, KeyClaim, Store as _};
#[cfg(feature = "outbox")]
use buttress_durable::consume::{DeadLetters as _, Letter, LetterId, Reason};
#[cfg(feature = "events")]
use buttress_durable::event_store::{self, Append as _, Expected, NewBatch, NewEvent, StreamId};
#[cfg(any(feature = "outbox", feature = "events"))]
use buttress_durable::outbox::MessageId;
#[cfg(feature = "outbox")]
use buttress_durable::outbox::{self, Inbox as _, NewMessage, Receipt, Write as _};
#[cfg(feature = "saga")]
use buttress_durable::saga::{self, Barrier as _, Beginning, NewSaga, Passage, SagaId, WorkerId};
use sqlx::AssertSqlSafe;

#[cfg(feature = "postgres")]
#[path = "suite/server.rs"]
mod server;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The tables of every part, in every build.
const TABLES: [&str; 16] = [
    "buttress_event",
    "buttress_event_projection",
    "buttress_event_snapshot",
    "buttress_event_stream",
    "buttress_dead_letter",
    "buttress_saga_signal",
    "buttress_idempotency",
    "buttress_inbox",
    "buttress_inbox_step",
    "buttress_outbox",
    "buttress_outbox_hold",
    "buttress_outbox_lease",
    "buttress_outbox_relay",
    "buttress_saga",
    "buttress_saga_entry",
    "buttress_saga_worker",
];

const TABLES_OF_VERSION_1: [&str; 10] = {
    let [_, _, _, _, _dead_letters, _signals, old @ ..] = TABLES;
    old
};

/// Uses every part of `$store`. Returns for each part its name, and whether the store had its rows
/// already. Otherwise writes them.
macro_rules! use_parts {
    ($store:expr) => {{
        let store = &$store;
        let mut found: Vec<(&str, bool)> = Vec::new();
        #[cfg(any(feature = "saga", feature = "outbox", feature = "events"))]
        {
            let mut tx = store.pool().begin().await.unwrap();
            #[cfg(feature = "saga")]
            {
                let passage = store.action(&mut tx, SagaId::new(7), "charge").await.unwrap();
                found.push(("barrier", passage == Passage::Repeated));
            }
            #[cfg(feature = "outbox")]
            {
                let receipt = store.receive(&mut tx, "mail", MessageId::new(7)).await.unwrap();
                found.push(("inbox", receipt == Receipt::Repeated));
                if receipt == Receipt::First {
                    let message = NewMessage::new(MessageId::new(7), "order-7", "paid");
                    store.write(&mut tx, &message).await.unwrap();
                }
            }
            #[cfg(feature = "events")]
            {
                let event = NewEvent::new(MessageId::new(7), "order.placed", "7 books");
                let stream = StreamId::new("order", "7");
                let batch = NewBatch::new(stream.clone(), Expected::Any, vec![event]);
                let before = store.read_stream_in(&mut tx, &stream, 0.into(), 9).await.unwrap();
                found.push(("events", !before.events.is_empty()));
                let appended = store.append_in(&mut tx, &batch).await.unwrap();
                assert_eq!(appended.last.get(), 1);
            }
            tx.commit().await.unwrap();
        }
        #[cfg(feature = "events")]
        {
            let (all, worker) = (event_store::Filter::all(), event_store::ProjectorId::new(7));
            let page = event_store::Store::read_all(store, 0.into(), &all, 9).await.unwrap();
            assert_eq!((page.events.len(), page.through.get()), (1, 1));
            let stream = StreamId::new("order", "7");
            let known = event_store::Store::load_snapshot(store, &stream).await.unwrap();
            found.push(("snapshots", known.is_some()));
            let snapshot = event_store::Snapshot::new(stream, 1.into(), 1, b"state".to_vec());
            event_store::Store::save_snapshot(store, &snapshot).await.unwrap();
            event_store::Store::purge_snapshots(store, "other", 9).await.unwrap();
            let claim = event_store::ProjectionClaim::new("list", worker, DAY);
            let leased = event_store::Store::lease_projection(store, claim).await.unwrap().unwrap();
            found.push(("projections", leased.lease.epoch > 1));
            event_store::Store::release_projection(store, &leased.lease).await.unwrap();
            event_store::Store::remove_projection(store, "other").await.unwrap();
            assert_eq!(event_store::Store::event_stats(store).await.unwrap().last, 1);
        }
        #[cfg(feature = "outbox")]
        {
            let backlog = outbox::Store::backlog(store).await.unwrap();
            assert_eq!(backlog.pending, 1);
            assert_eq!(outbox::Store::purge_receipts(store, DAY, 10).await.unwrap(), 0);
            found.push(("letters", store.letter_backlog("mail").await.unwrap().letters > 0));
            let letter = Letter::new(LetterId::new(7), "mail", "orders", "7", Reason::Poison);
            store.bury_letter(&letter).await.unwrap();
        }
        #[cfg(feature = "saga")]
        {
            let (id, worker) = (SagaId::new(7), WorkerId::new(7));
            let known = saga::Store::load(store, id).await.unwrap();
            found.push(("saga", known.is_some()));
            if known.is_none() {
                saga::Store::renew_worker(store, worker, DAY).await.unwrap();
                let beginning = Beginning::new(b"input".to_vec());
                let new = NewSaga::new(id, ("order", 1), "json", worker, beginning);
                saga::Store::create(store, new).await.unwrap();
            }
            let loaded = saga::Store::load(store, id).await.unwrap().unwrap();
            assert_eq!(loaded.beginning.input, b"input");
        }
        #[cfg(feature = "idempotency")]
        {
            let (key, claim) = (Key::new("order-7").unwrap(), ClaimId::new(7));
            let claimed = store.claim(KeyClaim::new(&key, claim), DAY).await.unwrap();
            found.push(("idempotency", claimed != Claimed::Owned));
            if claimed == Claimed::Owned {
                store.complete(KeyClaim::new(&key, claim), b"answer".to_vec(), DAY).await.unwrap();
            }
            let claimed = store.claim(KeyClaim::new(&key, ClaimId::new(8)), DAY).await.unwrap();
            assert_eq!(claimed, Claimed::Done(b"answer".to_vec()));
            assert_eq!(store.sweep_expired(10).await.unwrap(), 0);
        }
        found
    }};
}

/// Returns the number of rows of each table, by default of all [`TABLES`].
macro_rules! rows {
    ($pool:expr, $prefix:expr) => {
        rows!($pool, $prefix, TABLES)
    };
    ($pool:expr, $prefix:expr, $tables:ident) => {{
        let mut rows = Vec::new();
        for table in $tables {
            let sql = AssertSqlSafe(format!("SELECT count(*) FROM {}{table}", $prefix));
            let count: i64 = sqlx::query_scalar(sql).fetch_one($pool).await.unwrap();
            rows.push(count);
        }
        rows
    }};
}

/// Whether the last of the builds on one database runs, which finds the rows of every part.
fn is_last() -> bool {
    std::env::var_os("BUTTRESS_PARTS").is_some()
        && cfg!(all(
            feature = "saga",
            feature = "outbox",
            feature = "idempotency",
            feature = "events"
        ))
}

/// A row in every table of version 1. `$id` and `$bytes` are values of the database's types.
fn rows_of_version_1(prefix: &str, id: &str, bytes: &str, no: &str) -> Vec<String> {
    [
        format!(
            "buttress_saga (id, definition, version, codec, worker, epoch, status, length, cancel) \
             VALUES ({id}, 'order', 1, 'json', {id}, 1, 1, 0, {no})"
        ),
        format!(
            "buttress_saga_entry (saga, position, kind, step, payload) VALUES (1, -1, 0, 0, {bytes})"
        ),
        format!("buttress_saga_worker (worker, until) VALUES ({id}, 1)"),
        format!(
            "buttress_idempotency (key, claim, status, until, value) \
             VALUES ('old', {id}, 2, 9000000000000000000, {bytes})"
        ),
        format!(
            "buttress_outbox (id, partition, key, topic, payload, status, due_at) \
             VALUES ({id}, 0, 'old', '', {bytes}, 2, 1)"
        ),
        "buttress_outbox_hold (partition, key, sequence, until) VALUES (0, 'old', 1, 1)".to_owned(),
        "buttress_outbox_lease (partition) VALUES (0)".to_owned(),
        format!("buttress_outbox_relay (relay, until) VALUES ({id}, 1)"),
        format!("buttress_inbox (consumer, message) VALUES ('old', {id})"),
        format!(
            "buttress_inbox_step (saga, step, state, actions, undos) VALUES ({id}, 'old', 1, 1, 0)"
        ),
        "buttress_schema (name, value) VALUES ('version', 1), ('partitions', 1)".to_owned(),
    ]
    .map(|row| format!("INSERT INTO {prefix}{row}"))
    .to_vec()
}

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use std::path::{Path, PathBuf};

    use buttress::Rng;
    use buttress_sqlx::{SqliteConfig, SqliteStore};
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

    use super::*;

    fn fresh_path() -> PathBuf {
        std::env::temp_dir().join(format!("buttress-parts-{:016x}.db", Rng::default().next_u64()))
    }

    fn remove(path: &Path) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
    }

    #[tokio::test]
    async fn a_file_keeps_the_rows_of_parts_that_a_build_leaves_out() {
        let shared = std::env::var_os("BUTTRESS_PARTS").map(PathBuf::from);
        let path = shared.clone().unwrap_or_else(fresh_path);
        let store = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
        let before = rows!(store.pool(), "");
        let found = use_parts!(store);
        assert!(!is_last() || found.iter().all(|(_, found)| *found), "{found:?}");
        store.close().await;
        drop(store);
        let store = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
        let after = rows!(store.pool(), "");
        let kept = before.iter().zip(&after).all(|(before, after)| before <= after);
        assert!(kept, "{before:?} {after:?}");
        assert!(use_parts!(store).iter().all(|(_, found)| *found));
        store.close().await;
        drop(store);
        if shared.is_none() {
            remove(&path);
        }
    }

    #[tokio::test]
    async fn a_file_of_version_1_keeps_the_rows_of_every_part() {
        let path = fresh_path();
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let schema = "CREATE TABLE buttress_schema \
                      (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT";
        sqlx::raw_sql(schema).execute(&pool).await.unwrap();
        sqlx::raw_sql(include_str!("../src/sqlite/schema_1.sql")).execute(&pool).await.unwrap();
        let id = "X'00000000000000000000000000000009'";
        for sql in rows_of_version_1("", id, "X'0102'", "0") {
            sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        }
        assert_eq!(rows!(&pool, "", TABLES_OF_VERSION_1), [1; 10]);
        pool.close().await;

        let store = SqliteStore::open(SqliteConfig::new(&path).partitions(1)).await.unwrap();
        assert_eq!(rows!(store.pool(), "", TABLES_OF_VERSION_1), [1; 10]);
        assert!(use_parts!(store).iter().all(|(_, found)| !found));
        store.close().await;
        drop(store);
        remove(&path);
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use std::path::Path;

    use buttress_sqlx::{PostgresConfig, PostgresStore};
    use sqlx::postgres::{PgConnectOptions, PgPool};

    use super::server::{drop_schema, fresh_schema, postgres_url};
    use super::*;

    /// Returns the grants of the guide's page for the parts of this build.
    fn grants(schema: &str, role: &str) -> String {
        let page = include_str!("../src/guide/deployment.md");
        let (_, rest) = page.split_once("```sql\n").expect("the page has a block of SQL");
        let (sql, _) = rest.split_once("```").expect("the block ends");
        let mut parts = sql.split("-- The part ");
        let mut granted = parts.next().expect("the rights of every part").to_owned();
        let (mut known, mut chosen) = (0, 0);
        for part in parts {
            let (name, grant) = part.split_once(".\n").expect("the comment ends");
            known += 1;
            if match name {
                "saga" => cfg!(feature = "saga"),
                "outbox" => cfg!(feature = "outbox"),
                "idempotency" => cfg!(feature = "idempotency"),
                "events" => cfg!(feature = "events"),
                other => panic!("{other} is no part"),
            } {
                granted.push_str(grant);
                chosen += 1;
            }
        }
        assert!(known == 4 && chosen > 0, "{sql}");
        granted
            .replace("SCHEMA app ", &format!("SCHEMA {schema} "))
            .replace(" app.", &format!(" {schema}."))
            .replace("app_service", role)
    }

    async fn execute(pool: &PgPool, sql: String) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_needs_the_rights_of_its_parts_alone() {
        let Some(url) = postgres_url("a_store_needs_the_rights_of_its_parts_alone").await else {
            return;
        };
        let pool = PgPool::connect(&url).await.unwrap();
        let (schema, role) = (fresh_schema(), fresh_schema());
        execute(&pool, PostgresConfig::new(&url).schema(&schema).ddl().unwrap()).await;
        execute(&pool, format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
        execute(&pool, grants(&schema, &role)).await;
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.username(&role).password("secret");
        let config = PostgresConfig::with_options(options).schema(&schema);
        let store = PostgresStore::open(config).await.unwrap();
        assert!(use_parts!(store).iter().all(|(_, found)| !found));
        store.close().await;
        drop(store);
        drop_schema(&pool, &schema).await;
        execute(&pool, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }

    #[tokio::test]
    async fn a_schema_keeps_the_rows_of_parts_that_a_build_leaves_out() {
        let test = "a_schema_keeps_the_rows_of_parts_that_a_build_leaves_out";
        let Some(url) = postgres_url(test).await else { return };
        let shared = std::env::var("BUTTRESS_PARTS").ok();
        let name = shared.as_deref().and_then(|path| Path::new(path).file_stem()?.to_str());
        let schema = name.map_or_else(fresh_schema, str::to_owned);
        let config = || PostgresConfig::new(&url).schema(&schema);
        let prefix = format!("\"{schema}\".");
        let store = PostgresStore::open(config()).await.unwrap();
        let before = rows!(store.pool(), prefix);
        let found = use_parts!(store);
        assert!(!is_last() || found.iter().all(|(_, found)| *found), "{found:?}");
        let after = rows!(store.pool(), prefix);
        let kept = before.iter().zip(&after).all(|(before, after)| before <= after);
        assert!(kept, "{before:?} {after:?}");
        assert!(use_parts!(store).iter().all(|(_, found)| *found));
        let pool = PgPool::connect(&url).await.unwrap();
        store.close().await;
        drop(store);
        if shared.is_none() || is_last() {
            drop_schema(&pool, &schema).await;
        }
    }

    #[tokio::test]
    async fn a_schema_of_version_1_keeps_the_rows_of_every_part() {
        let test = "a_schema_of_version_1_keeps_the_rows_of_every_part";
        let Some(url) = postgres_url(test).await else { return };
        let pool = PgPool::connect(&url).await.unwrap();
        let schema = fresh_schema();
        let prefix = format!("\"{schema}\".");
        execute(&pool, format!("CREATE SCHEMA {schema}")).await;
        let table = "buttress_schema (name text PRIMARY KEY, value int8 NOT NULL)";
        execute(&pool, format!("CREATE TABLE {prefix}{table}")).await;
        let tables = include_str!("../src/postgres/schema_1.sql").replace("{s}", &prefix);
        execute(&pool, tables).await;
        let id = "'00000000000000000000000000000009'::uuid";
        for sql in rows_of_version_1(&prefix, id, "'\\x0102'::bytea", "false") {
            execute(&pool, sql).await;
        }
        assert_eq!(rows!(&pool, prefix, TABLES_OF_VERSION_1), [1; 10]);

        let config = PostgresConfig::new(&url).schema(&schema).partitions(1);
        let store = PostgresStore::open(config).await.unwrap();
        assert_eq!(rows!(&pool, prefix, TABLES_OF_VERSION_1), [1; 10]);
        assert!(use_parts!(store).iter().all(|(_, found)| !found));
        store.close().await;
        drop(store);
        drop_schema(&pool, &schema).await;
    }
}
