//! Orders, fulfilled by a worker that is killed all the time.
//!
//! A saga creates an order, reserves stock, charges a card and confirms the order, over three axum
//! services on loopback ports. The services tell of every order through an outbox, and a relay brings
//! that to a fourth, which keeps a ledger. Sagas and relay run in a process of their own, this program
//! again, which gets a SIGKILL every two seconds or so and is started anew. Cards are declined, stock runs
//! out, answers come late or never.
//!
//! In the end nothing may be lost, done twice, or half done: the account says whether that is so, and
//! the program fails if it is not.
//!
//! ```text
//! cargo run --release -p order_fulfilment    # on one file of SQLite, about 25 seconds
//! DATABASE_URL=postgres://user@localhost/database cargo run --release -p order_fulfilment
//! ```
//!
//! A SIGKILL is not the loss of power: what was written before it, the operating system still has.

mod account;
mod crew;
mod customers;
mod database;
mod demonstration;
mod http;
mod ledger;
mod order;
mod services;
mod trouble;
mod worker;

use std::process::ExitCode;

use buttress_sqlx::{PostgresStore, SqliteStore};
use tower::BoxError;

use database::{Database, Place};

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if std::env::args().nth(1).as_deref() == Some(crew::WORKER) {
        return be_a_worker().await;
    }
    let place = match std::env::var("DATABASE_URL") {
        Ok(url) => Place::schema(url, "order_fulfilment"),
        Err(_) => Place::file("order-fulfilment")?,
    };
    let balances = match &place {
        Place::Sqlite { .. } => demonstration::run::<SqliteStore>(&place).await,
        Place::Postgres { .. } => demonstration::run::<PostgresStore>(&place).await,
    };
    place.remove().await?;
    Ok(if balances? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn be_a_worker() -> Result<ExitCode, BoxError> {
    let crew::Assignment { place, services } = crew::assignment().await?;
    let ready = |address| println!("{address}");
    let stop = crew::end_of_input();
    match &place {
        Place::Sqlite { .. } => {
            worker::work(SqliteStore::open_at(&place).await?, &services, ready, stop).await?;
        }
        Place::Postgres { .. } => {
            worker::work(PostgresStore::open_at(&place).await?, &services, ready, stop).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
