//! Fulfils orders with a worker that is killed repeatedly.
//!
//! A saga creates an order, reserves stock, charges a card and confirms the order. Its services are
//! three axum services on loopback ports. They write a message about every order to an outbox, and
//! a relay delivers the messages to a fourth service, which keeps a ledger. Sagas and relay run in
//! a separate process of this program. That process gets a SIGKILL about every two seconds and is
//! started again. Cards are declined, stock runs out, and answers arrive late or never.
//!
//! At the end no order may be lost, executed twice, or left half-done. The account shows whether
//! that is true, and the program fails otherwise.
//!
//! ```text
//! cargo run --release -p order_fulfilment    # on one file of SQLite, about 25 seconds
//! DATABASE_URL=postgres://user@localhost/database cargo run --release -p order_fulfilment
//! cargo run --release -p order_fulfilment -- --serve    # without kills, with a status page and /metrics
//! ```
//!
//! A SIGKILL is not a loss of power: the operating system still has all writes before it.

mod account;
mod crew;
mod customers;
mod database;
mod demonstration;
mod http;
mod ledger;
mod order;
mod serve;
mod services;
mod trouble;
mod worker;

use std::net::SocketAddr;
use std::process::ExitCode;

use buttress_sqlx::{PostgresStore, SqliteStore};
use tower::BoxError;

use database::{Database, Place};
use worker::LEASE;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if std::env::args().nth(1).as_deref() == Some(crew::WORKER) {
        return be_a_worker().await;
    }
    let place = match std::env::var("DATABASE_URL") {
        Ok(url) => Place::schema(url, "order_fulfilment"),
        Err(_) => Place::file("order-fulfilment")?,
    };
    if std::env::args().nth(1).as_deref() == Some("--serve") {
        let served = match &place {
            Place::Sqlite { .. } => serve::run::<SqliteStore>(&place).await,
            Place::Postgres { .. } => serve::run::<PostgresStore>(&place).await,
        };
        place.remove().await?;
        return served.map(|()| ExitCode::SUCCESS);
    }
    let balances = match &place {
        Place::Sqlite { .. } => demonstration::run::<SqliteStore>(&place).await,
        Place::Postgres { .. } => demonstration::run::<PostgresStore>(&place).await,
    };
    place.remove().await?;
    Ok(if balances? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn be_a_worker() -> Result<ExitCode, BoxError> {
    let crew::Assignment { place, services } = crew::assignment().await?;
    let stop = crew::end_of_input();
    match &place {
        Place::Sqlite { .. } => {
            worker::work(
                SqliteStore::open_at(&place).await?,
                &services,
                LEASE,
                ready::<SqliteStore>,
                stop,
            )
            .await?;
        }
        Place::Postgres { .. } => {
            worker::work(
                PostgresStore::open_at(&place).await?,
                &services,
                LEASE,
                ready::<PostgresStore>,
                stop,
            )
            .await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports to the demonstration where this worker accepts orders.
fn ready<D: Database>(address: SocketAddr, _: worker::Parts<D>) {
    println!("{address}");
}
