//! The audit of the orders: what their events say, beside the rows of the shop and the list.

use std::collections::BTreeMap;
use std::fmt;

use buttress::Json;
use buttress_durable::event_store::{Aggregate, Decoder, Filter, Position, Store};
use buttress_sqlx::SqliteStore;
use tower::BoxError;

use crate::aggregate::{Order, OrderEvent};
use crate::list::LIST;

/// How many events one query reads.
const PAGE: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct Audit {
    events: u64,
    /// The last position. Positions have no gaps, so it is the number of events.
    last: u64,
    orders: usize,
    /// Orders whose row in the shop says something else than their events, and rows without events.
    wrong_rows: usize,
    /// The differences between the list and the events.
    missing: usize,
    wrong: usize,
    doubled: usize,
    unknown: usize,
    /// Events that the projection has not handled. `None` if the store does not know it.
    behind: Option<u64>,
}

impl Audit {
    pub(crate) async fn draw_up(store: &SqliteStore) -> Result<Self, BoxError> {
        // The projection first: the list has every event that it has handled.
        let states = store.projections().await?;
        let behind = states.iter().find(|state| state.name == LIST).map(|state| state.lag);
        let list: Vec<(i64, i64, i64, i64)> =
            sqlx::query_as("SELECT * FROM order_list").fetch_all(store.pool()).await?;
        let placed: Vec<(i64, i64)> =
            sqlx::query_as("SELECT number, cents FROM placed").fetch_all(store.pool()).await?;
        let mut audit = Self { behind, last: store.event_stats().await?.last, ..Self::default() };
        let orders = audit.orders(store).await?;
        audit.orders = orders.len();
        audit.compare_list(&orders, list);
        audit.compare_rows(&orders, placed);
        Ok(audit)
    }

    /// Returns the state of every order: the sum of its events.
    async fn orders(&mut self, store: &SqliteStore) -> Result<BTreeMap<i64, Order>, BoxError> {
        let (mut orders, decoder) = (BTreeMap::<i64, Order>::new(), Decoder::new(Json));
        let mut after = Position::START;
        while after.get() < self.last {
            let page = store.read_all(after, &Filter::all(), PAGE).await?;
            for ordered in &page.events {
                let number: i64 = ordered.event.stream.id().parse()?;
                let event = decoder.decode_at::<OrderEvent>(ordered)?;
                orders.entry(number).or_default().apply(&event);
                self.events += 1;
            }
            after = page.through;
        }
        Ok(orders)
    }

    fn compare_list(&mut self, orders: &BTreeMap<i64, Order>, list: Vec<(i64, i64, i64, i64)>) {
        let mut rows = BTreeMap::new();
        for (number, pieces, cents, submissions) in list {
            self.doubled +=
                usize::from(rows.insert(number, (pieces, cents, submissions)).is_some());
        }
        for (number, order) in orders {
            let pieces = order.items.iter().map(|item| i64::from(item.pieces)).sum();
            let expected = (pieces, order.cents(), i64::from(order.is_submitted));
            match rows.remove(number) {
                None => self.missing += 1,
                Some(row) => self.wrong += usize::from(row != expected),
            }
        }
        self.unknown = rows.len();
    }

    fn compare_rows(&mut self, orders: &BTreeMap<i64, Order>, placed: Vec<(i64, i64)>) {
        let mut placed: BTreeMap<i64, i64> = placed.into_iter().collect();
        for (number, order) in orders {
            let is_same = placed.remove(number) == Some(order.cents()) && order.is_submitted;
            self.wrong_rows += usize::from(!is_same);
        }
        self.wrong_rows += placed.len();
    }

    /// Whether the projection has handled every event.
    pub(crate) fn is_settled(&self) -> bool {
        self.behind == Some(0)
    }

    /// Whether events, rows and list say the same, each event once.
    pub(crate) fn balances(&self) -> bool {
        let differences = self.wrong_rows + self.missing + self.wrong + self.doubled + self.unknown;
        self.is_settled() && self.orders > 0 && self.events == self.last && differences == 0
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, last, orders, wrong_rows, missing, wrong, doubled, unknown, .. } = self;
        writeln!(
            f,
            "{events} events of {orders} orders at positions 1 to {last}; {wrong_rows} orders differ from their events"
        )?;
        write!(
            f,
            "the list of orders: {missing} missing, {wrong} wrong, {doubled} doubled, {unknown} without events"
        )
    }
}
