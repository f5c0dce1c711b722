//! The stock of items.

use tower::BoxError;

use super::Refusal;
use crate::database::Database;
use crate::order::{ITEMS, Order, RARE_ITEM, RARE_STOCK, STOCK};

pub(super) async fn create_tables<D: Database>(database: &D) -> Result<(), BoxError> {
    let stock = "CREATE TABLE stock (item BIGINT PRIMARY KEY, delivered BIGINT NOT NULL, \
                 available BIGINT NOT NULL)";
    database.ask(stock, &[]).await?;
    let reservations = "CREATE TABLE reservations (number BIGINT NOT NULL, item BIGINT NOT NULL, \
                        quantity BIGINT NOT NULL)";
    database.ask(reservations, &[]).await?;
    for item in 1..=ITEMS {
        let pieces = if item == RARE_ITEM { RARE_STOCK } else { STOCK };
        database.ask("INSERT INTO stock VALUES ($1, $2, $2)", &[item, pieces]).await?;
    }
    Ok(())
}

pub(super) async fn reserve<D: Database>(tx: &mut D::Tx, order: &Order) -> Result<(), Refusal> {
    let take = "UPDATE stock SET available = available - $2 \
                WHERE item = $1 AND available >= $2 RETURNING available";
    if D::query(tx, take, &[order.item, order.quantity]).await?.is_empty() {
        return Err(Refusal::Definite("out of stock"));
    }
    let insert = "INSERT INTO reservations VALUES ($1, $2, $3)";
    D::query(tx, insert, &[order.number, order.item, order.quantity]).await?;
    Ok(())
}

pub(super) async fn release<D: Database>(tx: &mut D::Tx, order: &Order) -> Result<(), Refusal> {
    let give_back = "UPDATE stock SET available = available + $2 WHERE item = $1";
    D::query(tx, give_back, &[order.item, order.quantity]).await?;
    D::query(tx, "DELETE FROM reservations WHERE number = $1", &[order.number]).await?;
    Ok(())
}
