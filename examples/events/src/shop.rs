//! The shop: the events of an order, its row, and the message about it are one transaction.

use std::time::Duration;

use buttress::{Clock, Json, Rng};
use buttress_durable::event::Events;
use buttress_durable::event_store::{Failed, Log, Repository};
use buttress_durable::outbox::Outbox;
use buttress_sqlx::{SqliteStore, SqliteTransaction};
use tower::BoxError;

use crate::aggregate::{Item, Order, OrderCommand, Refusal};
use crate::order::OrderPlaced;

const CUSTOMERS: u64 = 40;
/// The time between two orders.
const GAP: Duration = Duration::from_millis(20);

/// The order whose sum is known: two pieces for 10.99 and one for 24.99.
const FIRST: [Item; 2] = [Item { pieces: 2, cents: 1_099 }, Item { pieces: 1, cents: 2_499 }];
const FIRST_CENTS: i64 = 4_697;
/// It was created, two items were added, and it was submitted.
const FIRST_VERSION: u64 = 4;

pub(crate) struct Shop {
    store: SqliteStore,
    orders: Repository<Order, SqliteStore, Json>,
    events: Events,
    outbox: Outbox<SqliteStore>,
}

impl Shop {
    pub(crate) fn new(store: &SqliteStore) -> Self {
        Self {
            orders: Repository::new(&Log::new(store.clone()), Json),
            events: Events::new("shop"),
            outbox: Outbox::new(store.clone()),
            store: store.clone(),
        }
    }

    /// Places orders for a time. Returns how many commands the orders refused.
    pub(crate) async fn sell(self, open: Duration) -> Result<u64, BoxError> {
        let (clock, rng) = (Clock::default(), Rng::seeded(7));
        let closes = clock.now() + open;
        let (mut number, mut refused) = (0, 0);
        while clock.now() < closes {
            number += 1;
            let customer = i64::try_from(rng.between(1, CUSTOMERS))?;
            let items = if number == 1 { FIRST.to_vec() } else { items(number, &rng)? };
            let mut tx = self.store.begin().await?;
            refused += self.place(&mut tx, number, customer, &items).await?;
            if number > 1 && rng.between(1, 20) == 1 {
                // The customer changes their mind: neither the order nor its events exist.
                tx.rollback().await?;
            } else {
                tx.commit().await?;
                self.orders.log().committed();
            }
            clock.sleep(GAP).await;
        }
        Ok(refused)
    }

    /// Places an order. The commands that it must refuse are sent too; returns how many they were.
    async fn place(
        &self,
        tx: &mut SqliteTransaction,
        number: i64,
        customer: i64,
        items: &[Item],
    ) -> Result<u64, BoxError> {
        let id = number.to_string();
        self.orders.execute_in(tx, &id, &OrderCommand::Create { customer }).await?;
        self.refuses(tx, &id, OrderCommand::Submit, Refusal::Empty).await?;
        for item in items {
            self.orders.execute_in(tx, &id, &OrderCommand::Add(*item)).await?;
        }
        let done = self.orders.execute_in(tx, &id, &OrderCommand::Submit).await?;
        if let Some(item) = items.first() {
            self.refuses(tx, &id, OrderCommand::Add(*item), Refusal::Submitted).await?;
        }
        let cents = done.state.cents();
        if number == 1 && (cents, done.version.get()) != (FIRST_CENTS, FIRST_VERSION) {
            let version = done.version;
            return Err(format!("the first order has {cents} cents at version {version}").into());
        }
        let insert = sqlx::query("INSERT INTO placed VALUES (?, ?, ?)");
        insert.bind(number).bind(customer).bind(cents).execute(&mut ***tx).await?;
        let placed = OrderPlaced { number, customer, cents };
        self.outbox.write(tx, self.events.event(placed).encode(&Json)?).await?.committed();
        Ok(2)
    }

    /// Sends a command that the order must refuse.
    async fn refuses(
        &self,
        tx: &mut SqliteTransaction,
        id: &str,
        command: OrderCommand,
        why: Refusal,
    ) -> Result<(), BoxError> {
        match self.orders.execute_in(tx, id, &command).await {
            Err(Failed::Refused(refusal)) if refusal == why => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(format!("order {id} accepted {command:?}, although {why}").into()),
        }
    }
}

/// Returns what a customer buys. Every 50th order has no price.
fn items(number: i64, rng: &Rng) -> Result<Vec<Item>, BoxError> {
    let most = if number % 50 == 0 { 0 } else { 5_000 };
    (0..rng.between(1, 3))
        .map(|_| {
            let pieces = u32::try_from(rng.between(1, 3))?;
            let cents = i64::try_from(rng.between(1, 5_000).min(most))?;
            Ok(Item { pieces, cents })
        })
        .collect()
}
