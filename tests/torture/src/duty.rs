//! [`Duty`]: what a child process does until it is killed.

use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use buttress::Clock;
use buttress::retry::Backoff;
use buttress_durable::consume::{self, Consumer, Delivery};
use buttress_durable::outbox::{self, Outbox, Receipt, Relay};
use buttress_sqlx::sqlx;
use tower::{BoxError, service_fn};

use crate::{Transport, UNDER_WAY, open};

const ROLE: &str = "BUTTRESS_TORTURE_ROLE";
const FOLDER: &str = "BUTTRESS_TORTURE_FOLDER";
const ADDRESS: &str = "BUTTRESS_TORTURE_ADDRESS";
const SECOND: Duration = Duration::from_secs(1);
/// The roles of the children.
pub(crate) const RELAY: &str = "relay";
pub(crate) const CONSUMER: &str = "consumer";

/// The role of a child process: a relay or a consumer.
#[derive(Debug)]
pub struct Duty {
    role: String,
    folder: PathBuf,
    address: String,
}

impl Duty {
    pub(crate) fn hand_over(command: &mut Command, role: &str, folder: &Path, address: &str) {
        command.env(ROLE, role).env(FOLDER, folder).env(ADDRESS, address);
    }

    /// Returns the duty of this process, if it is a child.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let of = |name: &str| std::env::var(name).ok();
        Some(Self { role: of(ROLE)?, folder: of(FOLDER)?.into(), address: of(ADDRESS)? })
    }

    /// Works until the process is killed.
    pub(crate) async fn work(self, transport: &impl Transport) -> Infallible {
        // A cut may come at any time, also while the child begins.
        loop {
            let begun = match &*self.role {
                RELAY => self.relay(transport).await,
                _ => self.consume(transport).await,
            };
            if let Err(error) = begun {
                eprintln!("{}: {error}", self.role);
            }
            Clock::default().sleep(SECOND / 20).await;
        }
    }

    async fn relay(&self, transport: &impl Transport) -> Result<(), BoxError> {
        let outbox = Outbox::new(open(&self.folder, "outbox.db").await?);
        let publisher = transport.publisher(&self.address).await?;
        let config = outbox::Config::new().lease(SECOND).poll(SECOND / 50).idle_poll(SECOND / 10);
        let config = config.concurrency(UNDER_WAY).batch(200).max_starts(1000);
        // No cut makes a dead letter.
        let config = config.retry(1000, Backoff::fixed(SECOND / 50)).max_hint(SECOND);
        let config = config.publish_timeout(2 * SECOND);
        let _relay = Relay::new(&outbox, publisher, config)?.spawn();
        pending().await
    }

    async fn consume(&self, transport: &impl Transport) -> Result<(), BoxError> {
        let store = open(&self.folder, "effects.db").await?;
        let source = transport.source(&self.address).await?;
        let database = store.clone();
        let handler = service_fn(move |delivery: Delivery| {
            let database = database.clone();
            async move {
                let mut tx = database.begin().await?;
                if delivery.first(&mut tx, &database, "billing").await? == Receipt::First {
                    let number: i64 = std::str::from_utf8(delivery.payload())?.parse()?;
                    let effect = "INSERT INTO effects (subject, number) VALUES (?, ?)";
                    let effect = sqlx::query(effect).bind(delivery.key()).bind(number);
                    effect.execute(&mut **tx).await?;
                }
                tx.commit().await?;
                Ok::<(), BoxError>(())
            }
        });
        let config = consume::Config::new().max_redeliveries(1000);
        let _consumer = Consumer::new(source, handler, config)?.dead_letters(store).spawn();
        pending().await
    }
}
