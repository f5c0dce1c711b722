//! Measures the event store beside plain statements and other crates, in one run.
//!
//! Prints the report and writes it to `STORES.md`. Needs PostgreSQL 16 or newer: `BUTTRESS_POSTGRES_URL`, or the standard port of the
//! local machine. The argument is the number of rounds.
#![allow(clippy::disallowed_methods, reason = "a program that measures real time")]

mod aggregate;
mod bench;
mod commands;
mod loading;
mod on_postgres;
mod on_sqlite;
mod report;

// Shared with the other workspaces of benchmarks.
#[path = "../../../src/process.rs"]
#[allow(dead_code, reason = "another workspace uses the rest")]
mod process;
#[path = "../../../src/report/toolchain.rs"]
mod toolchain;

use bench::Error;

/// Rounds of each candidate, unless an argument says otherwise. They take turns.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse())?;
    let url = std::env::var("BUTTRESS_POSTGRES_URL");
    let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
    let server = on_postgres::server(&url).await?;
    let postgres = on_postgres::measure(&url, rounds).await?;
    let loads = on_postgres::loads(&url, rounds).await?;
    let commands = commands::measure(&url, rounds).await?;
    let sqlite = on_sqlite::measure(rounds).await?;
    report::write(&report::All { server, postgres, loads, commands, sqlite }, rounds)
}
