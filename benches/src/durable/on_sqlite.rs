//! Sagas on SQLite, compared with durare's workflows.

use std::sync::Arc;

use buttress::Json;
use buttress_durable::saga::{Config, Executor, Page, Status, Store};
use buttress_sqlx::{SqliteConfig, SqliteStore, Synchronous};
use durare::{DurableContext, DurableEngine, SqliteProvider, WorkflowOptions};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::runtime::Runtime;

use super::flow::{rate, two_threads};
use super::folder::Folder;
use super::sagas::{self, STEPS, expect};
use super::{DURARE, IN_FLIGHT, SQLITE_FULL, SQLITE_NORMAL};
use crate::patterns::BUTTRESS;
use crate::probes::finding;
use crate::spread::median;

const ROUNDS: usize = 5;
/// The sagas of a round.
const OURS: u64 = 2_000;
const THEIRS: u64 = 150;

async fn buttress(synchronous: Synchronous) -> f64 {
    let folder = Folder::new();
    let config = SqliteConfig::new(folder.file("sagas.db")).synchronous(synchronous);
    let store = SqliteStore::open(config).await.expect("a new file");
    let (definition, last) = sagas::definition(Json);
    let executor = Executor::new(definition, store.clone(), Config::new()).expect("valid");
    let each = rate(OURS, IN_FLIGHT, sagas::run(BUTTRESS, executor.clone(), last)).await;
    let ended = store.list(Page::first(OURS as usize + 1).status(Status::Completed)).await;
    assert_eq!(ended.expect("the store answers").len() as u64, OURS, "all are stored");
    executor.shut_down().await.expect("nothing is under way");
    store.close().await;
    each
}

async fn five(context: DurableContext, input: u64) -> durare::Result<u64> {
    let mut last = input;
    for name in STEPS {
        let before = last;
        last = context.step(name, || async move { durare::Result::Ok(before + 1) }).await?;
    }
    Ok(last)
}

/// Opens a pool as durare's own `connect` does, except for `synchronous`, which `connect` does not
/// expose.
async fn pool(folder: &Folder, synchronous: SqliteSynchronous) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(folder.file("workflows.db"))
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(std::time::Duration::from_secs(5));
    SqlitePoolOptions::new().max_connections(5).connect_with(options).await.expect("a new file")
}

async fn durare(synchronous: SqliteSynchronous) -> f64 {
    let folder = Folder::new();
    let pool = pool(&folder, synchronous).await;
    let mut engine = DurableEngine::builder(Arc::new(SqliteProvider::from_pool(pool.clone())));
    engine.register("five", five);
    let engine = Arc::new(engine.build().await.expect("a new engine"));
    let starts = engine.clone();
    let each = rate(THEIRS, IN_FLIGHT, move |input| {
        let engine = starts.clone();
        async move {
            let started = engine.start::<u64, u64>("five", input, WorkflowOptions::default());
            let output = started.await.expect("it starts").await.expect("no step fails");
            expect(DURARE, input, output);
        }
    });
    let each = each.await;
    let steps = "SELECT count(*) FROM operation_outputs WHERE output IS NOT NULL";
    let steps: i64 = sqlx::query_scalar(steps).fetch_one(&pool).await.expect("its table");
    assert_eq!(steps as u64, THEIRS * STEPS.len() as u64, "all steps are stored");
    engine.shutdown(std::time::Duration::from_secs(5)).await.expect("nothing is under way");
    pool.close().await;
    each
}

/// Prints the rates, with the ratio of both as the value of buttress.
fn compare(what: &str, runtime: &Runtime, ours: Synchronous, theirs: SqliteSynchronous) {
    let (mut rates, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        rates.push(runtime.block_on(buttress(ours)));
        peers.push(runtime.block_on(durare(theirs)));
    }
    let ratio = rates.iter().zip(&peers).map(|(ours, theirs)| ours / theirs).collect();
    let [ours, theirs, ratio] = [rates, peers, ratio].map(|v| median(v).expect("rounds"));
    finding(what, BUTTRESS, ratio, &format!("{ours:.0}/s, {ratio:.1} times durare's"));
    finding(what, DURARE, theirs, &format!("{theirs:.0}/s"));
}

pub fn run() {
    let runtime = two_threads();
    compare(SQLITE_NORMAL, &runtime, Synchronous::Normal, SqliteSynchronous::Normal);
    compare(SQLITE_FULL, &runtime, Synchronous::Full, SqliteSynchronous::Full);
}
