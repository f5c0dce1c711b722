//! The account: what the tables say at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use buttress_durable::consume::DeadLetters;
use buttress_durable::outbox::Store;
use buttress_sqlx::SqliteStore;
use tower::BoxError;

/// The effects of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    rows: usize,
    orders: BTreeSet<i64>,
    cents: i64,
    /// Effects that came after a later one of their customer. A replayed event is not counted.
    out_of_order: usize,
}

#[derive(Debug)]
pub(crate) struct Account {
    placed: BTreeSet<i64>,
    cents: i64,
    invoices: Effects,
    shipments: Effects,
    repeated: i64,
    pending: u64,
    pub dead: u64,
}

impl Account {
    pub(crate) async fn draw_up(store: &SqliteStore) -> Result<Self, BoxError> {
        // The backlog first: an event that leaves it has had its effects.
        let pending = store.backlog().await?.pending;
        let (mut dead, pool) = (0, store.pool());
        for group in ["billing", "shipping"] {
            dead += store.letter_backlog(group).await?.letters;
        }
        let placed: Vec<(i64, i64)> =
            sqlx::query_as("SELECT number, cents FROM placed").fetch_all(pool).await?;
        let repeated = sqlx::query_scalar("SELECT count(*) FROM repeated").fetch_one(pool).await?;
        Ok(Self {
            cents: placed.iter().map(|(_, cents)| cents).sum(),
            placed: placed.into_iter().map(|(number, _)| number).collect(),
            invoices: effects(store, "SELECT * FROM invoice ORDER BY rowid").await?,
            shipments: effects(store, "SELECT * FROM shipment ORDER BY rowid").await?,
            repeated,
            pending,
            dead,
        })
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_settled(&self) -> bool {
        let each = [&self.invoices, &self.shipments];
        let are_there = each.iter().all(|effects| effects.orders.is_superset(&self.placed));
        self.pending == 0 && self.dead == 0 && are_there
    }

    /// Whether every order has its effects, each once and in order.
    pub(crate) fn balances(&self) -> bool {
        let each = [&self.invoices, &self.shipments];
        let once = |effects: &&Effects| {
            effects.orders == self.placed
                && effects.rows == self.placed.len()
                && effects.cents == self.cents
                && effects.out_of_order == 0
        };
        self.is_settled() && !self.placed.is_empty() && each.iter().all(once)
    }

    pub(crate) fn in_short(&self) -> String {
        format!(
            "{} orders, {} invoices, {} shipments, {} events wait, {} dead letters",
            self.placed.len(),
            self.invoices.rows,
            self.shipments.rows,
            self.pending,
            self.dead
        )
    }
}

async fn effects(store: &SqliteStore, sql: &'static str) -> Result<Effects, BoxError> {
    let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(sql).fetch_all(store.pool()).await?;
    let (mut effects, mut last) = (Effects::default(), BTreeMap::new());
    for (number, customer, cents, replays) in rows {
        effects.rows += 1;
        effects.orders.insert(number);
        effects.cents += cents;
        if replays == 0 {
            let before = last.insert(customer, number);
            effects.out_of_order += usize::from(before.is_some_and(|before| before > number));
        }
    }
    Ok(effects)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placed = self.placed.len();
        writeln!(f, "{placed} orders for {} cents", self.cents)?;
        for (name, effects) in [("invoices", &self.invoices), ("shipments", &self.shipments)] {
            let Effects { rows, orders, cents, out_of_order } = effects;
            let missing = self.placed.difference(orders).count();
            let doubled = rows.saturating_sub(orders.len());
            let unknown = orders.difference(&self.placed).count();
            writeln!(
                f,
                "{rows} {name} for {cents} cents: {missing} missing, {doubled} doubled, {unknown} without an order, \
                 {out_of_order} out of order"
            )?;
        }
        write!(
            f,
            "{} repeated deliveries had no effect; {} events and {} dead letters are left",
            self.repeated, self.pending, self.dead
        )
    }
}
