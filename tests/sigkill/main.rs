//! Real processes, killed with SIGKILL at random moments, on SQLite and on PostgreSQL.
//!
//! Two workers run sagas, relay messages and answer requests under idempotency keys, over one
//! database. Every 50 to 150 ms one of them is killed and another takes its place. Half of the kills,
//! at random, wait until a saga runs in the worker. Each kill is a round. In some rounds the other worker
//! is frozen (SIGSTOP) until after the end of its leases, and then continues. Some sagas wait for a time.
//! After all rounds a last worker finishes the work, and the test counts everything. No message is lost,
//! messages of one key are in order, only deliveries are duplicated, every effect happens once, every wait
//! takes its whole time, and every saga is whole.
//!
//! The test does not verify `synchronous=FULL`: after a SIGKILL the operating system still has all
//! writes of the process. Only a loss of power can verify it.
//!
//! ```text
//! cargo test --test sigkill                              # 100 rounds on each database
//! BUTTRESS_SIGKILL_ROUNDS=1000 cargo test --test sigkill sqlite
//! BUTTRESS_SIGKILL_SEED=7 cargo test --test sigkill      # the same moments, as far as a clock allows
//! ```
//!
//! PostgreSQL is at `BUTTRESS_POSTGRES_URL`, or at `postgres://postgres@127.0.0.1:5432/test` if
//! that is available. Without PostgreSQL its half is skipped, which is a failure if
//! `BUTTRESS_REQUIRE_SERVICES=1`.

mod account;
#[path = "../../examples/order_fulfilment/src/database.rs"]
mod database;
mod rounds;
mod steps;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use buttress::Clock;
use buttress_sqlx::{PostgresStore, SqliteStore};
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tower::BoxError;

use database::Place;
use rounds::Rounds;
use worker::Duty;

/// It has its own `main` because the workers are this program too.
#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if let Some(duty) = Duty::of_this_process()? {
        match duty.place {
            Place::Sqlite { .. } => worker::work::<SqliteStore>(&duty).await?,
            Place::Postgres { .. } => worker::work::<PostgresStore>(&duty).await?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("sqlite: test\npostgres: test");
        return Ok(ExitCode::SUCCESS);
    }
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(*part));

    let rounds = Rounds::from_environment()?;
    let mut all_is_well = true;
    if wanted("sqlite") {
        let place = Place::file("buttress-sigkill")?;
        let ended = rounds.run::<SqliteStore>("sqlite", &place).await;
        place.remove().await?;
        all_is_well &= ended?;
    }
    if wanted("postgres") {
        match postgres().await {
            Ok(url) => {
                let place = Place::schema(url, "buttress_sigkill");
                let ended = rounds.run::<PostgresStore>("postgres", &place).await;
                place.remove().await?;
                all_is_well &= ended?;
            }
            Err(why) => {
                println!("postgres: skipped: {why}");
                all_is_well &= std::env::var("BUTTRESS_REQUIRE_SERVICES").as_deref() != Ok("1");
            }
        }
    }
    Ok(if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the URL of PostgreSQL, or why it is unavailable.
async fn postgres() -> Result<String, BoxError> {
    let url = std::env::var("BUTTRESS_POSTGRES_URL");
    let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
    let connected = tokio::select! {
        connected = PgConnection::connect(&url) => connected,
        () = Clock::default().sleep(Duration::from_secs(20)) => return Err("no answer within 20 s".into()),
    };
    connected?.close().await?;
    Ok(url)
}
