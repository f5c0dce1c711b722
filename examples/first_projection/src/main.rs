//! Accounts as events on PostgreSQL, and a table of balances that a projection keeps.

use std::time::Duration;

use buttress::{Clock, Json};
use buttress_durable::event::DomainEvent;
use buttress_durable::event_store::{
    Aggregate, Batch, Config, Decoder, Failed, Log, Projection, Repository,
};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Transaction, query, query_scalar};
use tower::{BoxError, service_fn};

/// The state of an account: the sum of its events.
#[derive(Default)]
struct Account {
    is_open: bool,
    cents: i64,
}

enum Command {
    Open,
    Deposit(u32),
    Withdraw(u32),
}

#[derive(Serialize, Deserialize)]
enum AccountEvent {
    Opened,
    Deposited { cents: u32 },
    Withdrawn { cents: u32 },
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the account is not open")]
    NotOpen,
    #[error("the account has {cents} cents")]
    TooFew { cents: i64 },
}

impl DomainEvent for AccountEvent {
    // The names are in the database: they stay the same forever.
    const KINDS: &'static [(&'static str, u32)] =
        &[("account.opened", 1), ("account.deposited", 1), ("account.withdrawn", 1)];

    fn kind(&self) -> &'static str {
        match self {
            Self::Opened => "account.opened",
            Self::Deposited { .. } => "account.deposited",
            Self::Withdrawn { .. } => "account.withdrawn",
        }
    }

    fn subject(&self) -> String {
        "account".to_owned()
    }
}

impl Aggregate for Account {
    const KIND: &'static str = "account";
    type Event = AccountEvent;
    type Command = Command;
    type Error = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<AccountEvent>, Refusal> {
        match *command {
            Command::Open if self.is_open => Ok(Vec::new()), // a repeated command causes nothing
            Command::Open => Ok(vec![AccountEvent::Opened]),
            _ if !self.is_open => Err(Refusal::NotOpen),
            Command::Deposit(cents) => Ok(vec![AccountEvent::Deposited { cents }]),
            Command::Withdraw(cents) if i64::from(cents) > self.cents => {
                Err(Refusal::TooFew { cents: self.cents })
            }
            Command::Withdraw(cents) => Ok(vec![AccountEvent::Withdrawn { cents }]),
        }
    }

    fn apply(&mut self, event: &AccountEvent) {
        match *event {
            AccountEvent::Opened => self.is_open = true,
            // An event is a fact, so this must work for each one: no sum of 32-bit amounts overflows 64 bits.
            AccountEvent::Deposited { cents } => self.cents += i64::from(cents),
            AccountEvent::Withdrawn { cents } => self.cents -= i64::from(cents),
        }
    }
}

/// Writes the table of balances, in the transaction that moves the checkpoint of the projection.
async fn keep_balances(
    mut batch: Batch<Transaction<'static, Postgres>>,
) -> Result<Batch<Transaction<'static, Postgres>>, BoxError> {
    let decoder = Decoder::new(Json);
    let (tx, events) = batch.parts();
    for ordered in events {
        let change = match *decoder.decode_at::<AccountEvent>(ordered)? {
            AccountEvent::Opened => 0,
            AccountEvent::Deposited { cents } => i64::from(cents),
            AccountEvent::Withdrawn { cents } => -i64::from(cents),
        };
        query(
            "INSERT INTO balance (account, cents) VALUES ($1, $2) \
               ON CONFLICT (account) DO UPDATE SET cents = balance.cents + $2",
        )
        .bind(ordered.event.stream.id())
        .bind(change)
        .execute(&mut **tx)
        .await?;
    }
    Ok(batch)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Creates the tables of the store, unless they are there.
    let url = std::env::var("DATABASE_URL").map_err(|error| format!("DATABASE_URL: {error}"))?;
    let store = PostgresStore::open(PostgresConfig::new(url)).await?;
    query("CREATE TABLE IF NOT EXISTS balance (account text PRIMARY KEY, cents int8 NOT NULL)")
        .execute(store.pool())
        .await?;
    let log = Log::new(store.clone());

    // A service has this in each of its processes: one of them runs the projection.
    let projection = Projection::new("balances", &log, service_fn(keep_balances), Config::new())?;
    let projection = projection.in_transaction().spawn();

    let accounts = Repository::<Account, _, _>::new(&log, Json);
    let id = format!("account-{}", std::process::id());
    accounts.execute(&id, &Command::Open).await?;
    accounts.execute(&id, &Command::Deposit(500)).await?;
    let done = accounts.execute(&id, &Command::Withdraw(120)).await?;
    println!("{id} has {} cents at version {}", done.state.cents, done.version);
    match accounts.execute(&id, &Command::Withdraw(1_000)).await {
        Err(Failed::Refused(refusal)) => println!("refused: {refusal}"),
        other => return Err(format!("not refused: {:?}", other.map(|done| done.version)).into()),
    }

    // The table follows a moment later.
    let (clock, balance) = (Clock::default(), "SELECT cents FROM balance WHERE account = $1");
    while query_scalar(balance).bind(&id).fetch_optional(store.pool()).await? != Some(380_i64) {
        if let Some(stopped) = projection.stopped() {
            return Err(stopped.to_string().into());
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    println!("the table of balances has 380 cents");
    projection.shut_down().await;
    store.close().await;
    Ok(())
}
