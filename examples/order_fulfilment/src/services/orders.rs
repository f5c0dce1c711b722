//! Orders, and messages about them. Each change of an order writes its message in the same
//! transaction.

use buttress_durable::outbox::Outbox;
use tower::BoxError;

use super::{Refusal, Site};
use crate::database::Database;
use crate::order::{Ask, CREDIT_LIMIT, CUSTOMERS, News, Order, What};

pub(crate) const OPEN: i64 = 1;
pub(crate) const CONFIRMED: i64 = 2;
pub(crate) const CANCELLED: i64 = 3;

pub(super) async fn create_tables<D: Database>(database: &D) -> Result<(), BoxError> {
    // The tables of the services accept a second row for one order, so that the account shows any
    // step that ran twice.
    let orders = "CREATE TABLE orders (number BIGINT NOT NULL, customer BIGINT NOT NULL, \
                  status BIGINT NOT NULL)";
    database.ask(orders, &[]).await?;
    let customers = "CREATE TABLE customers (number BIGINT PRIMARY KEY, news BIGINT NOT NULL)";
    database.ask(customers, &[]).await?;
    for customer in 1..=CUSTOMERS {
        database.ask("INSERT INTO customers VALUES ($1, 0)", &[customer]).await?;
    }
    Ok(())
}

pub(super) async fn create<D: Database>(
    site: &Site<D>,
    tx: &mut D::Tx,
    order: &Order,
) -> Result<(), Refusal> {
    let insert = "INSERT INTO orders VALUES ($1, $2, $3)";
    D::query(tx, insert, &[order.number, order.customer, OPEN]).await?;
    announce(&site.outbox, tx, order, What::Placed).await
}

/// The pivot of the saga: a confirmed order is never undone.
pub(super) async fn confirm<D: Database>(
    site: &Site<D>,
    tx: &mut D::Tx,
    ask: &Ask,
) -> Result<(), Refusal> {
    let order = &ask.order;
    match &ask.receipt {
        Some(receipt) if receipt.cents == order.cents => {}
        _ => return Err(Refusal::Definite("the order has not been paid")),
    }
    if order.cents > CREDIT_LIMIT {
        return Err(Refusal::Definite("the order exceeds the credit limit"));
    }
    change::<D>(tx, order, CONFIRMED).await?;
    announce(&site.outbox, tx, order, What::Confirmed).await
}

pub(super) async fn cancel<D: Database>(
    site: &Site<D>,
    tx: &mut D::Tx,
    order: &Order,
) -> Result<(), Refusal> {
    change::<D>(tx, order, CANCELLED).await?;
    announce(&site.outbox, tx, order, What::Cancelled).await
}

async fn change<D: Database>(tx: &mut D::Tx, order: &Order, status: i64) -> Result<(), Refusal> {
    let update = "UPDATE orders SET status = $2 WHERE number = $1 AND status = $3 RETURNING number";
    match D::query(tx, update, &[order.number, status, OPEN]).await?.len() {
        1 => Ok(()),
        _ => Err(Refusal::Broken("the order is not open".into())),
    }
}

/// Writes a message in the transaction `tx`. The transaction locks the row of the customer, which
/// keeps the messages about one customer in order.
async fn announce<D: Database>(
    outbox: &Outbox<D>,
    tx: &mut D::Tx,
    order: &Order,
    what: What,
) -> Result<(), Refusal> {
    let customer = order.customer;
    let next = "UPDATE customers SET news = news + 1 WHERE number = $1 RETURNING news";
    let rows = D::query(tx, next, &[customer]).await?;
    let number = *rows.first().and_then(|row| row.first()).ok_or("no such customer")?;
    let news = News { customer, number, order: order.number, what };
    let message = outbox.message(format!("customer-{customer}"), serde_json::to_vec(&news)?);
    // The relay runs in another process, which `committed` cannot wake: it polls.
    let _written = outbox.write(tx, message.topic("ledger")).await?;
    Ok(())
}
