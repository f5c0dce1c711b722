//! The bytes that a waiting saga costs: none in an executor, and its record in the store in memory. A
//! separate program with one test, because it counts the allocations of all threads.
//!
//! ```text
//! BUTTRESS_WAITING_SAGAS=100000 cargo test --release --test waiting_sagas -- --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking, as the tests do"
)]

use std::alloc::System;
use std::time::Duration;

use buttress::{Clock, Json};
use buttress_durable::saga::{
    Call, Config, Definition, Executor, MemoryStore, Page, SagaId, Status, Store,
};
use buttress_sqlx::{SqliteConfig, SqliteStore, Synchronous};
use cap::Cap;
use tower::{BoxError, service_fn};

/// Counts the bytes that the program has allocated and not freed. SQLite's own memory is not among them:
/// its pages are in a cache of constant size.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// The number of concurrent starts.
const AT_ONCE: u64 = 64;
/// Buffers and tables of the executor, of the runtime and of connections, for any number of sagas. They reach
/// their size with the first sagas, and vary later.
const CONSTANT: i64 = 64 * 1024;

/// Sends a reminder after three days.
fn reminder() -> Definition<u64, Json> {
    let send = service_fn(async |call: Call<u64>| Ok::<u64, BoxError>(call.into_request()));
    let mut saga = Definition::<u64>::builder("reminder", 1).codec(Json);
    saga.step("three days").wait(|_, ()| Duration::from_secs(3 * 24 * 3600));
    saga.step("send").action((), send, |user: &u64, ()| *user).add();
    saga.build().unwrap()
}

/// Starts sagas with the numbers `first` to `last`, until all of them wait.
async fn start<S: Store<Vec<u8>>>(sagas: &Executor<u64, Json, S>, first: u64, last: u64) {
    for number in first..=last {
        drop(sagas.start_as(SagaId::new(number.into()), number).await.unwrap());
        while sagas.stats().active >= AT_ONCE {
            tokio::task::yield_now().await;
        }
    }
    while sagas.stats().active > 0 {
        tokio::task::yield_now().await;
    }
}

/// Returns by how many bytes the program grows for `count` more waiting sagas.
async fn growth<S: Store<Vec<u8>> + Clone>(store: S, count: u64) -> i64 {
    let sagas = Executor::new(reminder(), store.clone(), Config::new()).unwrap();
    let settle = count / 4 + 100;
    start(&sagas, 1, settle).await;
    let before = ALLOCATOR.allocated() as i64;
    start(&sagas, settle + 1, settle + count).await;
    let grown = ALLOCATOR.allocated() as i64 - before;
    let waiting = store.list(Page::first(usize::MAX >> 1).status(Status::Waiting)).await.unwrap();
    assert_eq!(waiting.len() as u64, settle + count, "all sagas wait");
    sagas.shut_down().await.unwrap();
    grown
}

#[tokio::test]
async fn a_waiting_saga_costs_its_executor_nothing() {
    let count: u64 = std::env::var("BUTTRESS_WAITING_SAGAS")
        .map_or(500, |count| count.parse().expect("BUTTRESS_WAITING_SAGAS is a number"));
    let each = |grown: i64| grown as f64 / count as f64;

    let memory = MemoryStore::of_bytes(Clock::default());
    let grown = growth(memory, count).await;
    println!("{count} sagas wait over the store in memory: {:.1} bytes each", each(grown));
    assert!((100.0..2_000.0).contains(&each(grown)), "the record of a saga: {grown} bytes");

    let folder = std::env::temp_dir().join(format!("buttress-waiting-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = SqliteConfig::new(folder.join("sagas.db")).synchronous(Synchronous::Normal);
    let store = SqliteStore::open(config).await.unwrap();
    let grown = growth(store.clone(), count).await;
    store.close().await;
    std::fs::remove_dir_all(&folder).unwrap();
    println!("{count} sagas wait on SQLite: {:.1} bytes each, {grown} together", each(grown));
    assert!(grown < CONSTANT, "{grown} bytes for {count} sagas that wait on SQLite");
}
