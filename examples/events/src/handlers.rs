//! Billing and shipping: handlers whose effect and receipt are one transaction.

use std::time::Duration;

use buttress::{Clock, Json, Rng};
use buttress_durable::consume::{Delivery, Rejected};
use buttress_durable::outbox::Receipt;
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::order::OrderPlaced;

/// What a handler needs.
#[derive(Clone)]
pub(crate) struct Handlers {
    pub store: SqliteStore,
    pub rng: Rng,
    /// Whether billing can handle an order without a price.
    pub is_mended: bool,
}

impl Handlers {
    pub(crate) async fn bill(self, delivery: Delivery) -> Result<(), BoxError> {
        let event = delivery.event::<OrderPlaced, _>(&Json)?.known()?;
        if event.data.cents == 0 && !self.is_mended {
            return Err(Rejected::new("billing cannot handle an order without a price").into());
        }
        self.once(&delivery, "billing", "INSERT INTO invoice VALUES (?, ?, ?, ?)").await
    }

    pub(crate) async fn ship(self, delivery: Delivery) -> Result<(), BoxError> {
        Clock::default().sleep(Duration::from_millis(self.rng.between(1, 10))).await;
        self.once(&delivery, "shipping", "INSERT INTO shipment VALUES (?, ?, ?, ?)").await
    }

    /// Runs `effect` unless an earlier delivery did. Fails at random, before the transaction or after its commit.
    async fn once(
        &self,
        delivery: &Delivery,
        consumer: &str,
        effect: &'static str,
    ) -> Result<(), BoxError> {
        let event = delivery.event::<OrderPlaced, _>(&Json)?.known()?;
        let trouble = self.rng.between(1, 40);
        if trouble == 1 {
            return Err("the database is unavailable".into());
        }
        let mut tx = self.store.begin().await?;
        let order = &event.data;
        if event.first(&mut tx, &self.store, consumer).await? == Receipt::First {
            let query = sqlx::query(effect).bind(order.number).bind(order.customer);
            let query = query.bind(order.cents).bind(i64::from(delivery.replays()));
            query.execute(&mut **tx).await?;
        } else {
            let query = sqlx::query("INSERT INTO repeated VALUES (?)").bind(order.number);
            query.execute(&mut **tx).await?;
        }
        tx.commit().await?;
        if trouble == 2 { Err("the handler fails after its commit".into()) } else { Ok(()) }
    }
}
