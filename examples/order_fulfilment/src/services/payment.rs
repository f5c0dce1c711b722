//! Charges and refunds of cards.

use tower::BoxError;

use super::Refusal;
use crate::database::Database;
use crate::order::{BAD_CARD, Order};

pub(super) async fn create_tables<D: Database>(database: &D) -> Result<(), BoxError> {
    let charges = "CREATE TABLE charges (number BIGINT NOT NULL, cents BIGINT NOT NULL)";
    database.ask(charges, &[]).await?;
    let refunds = "CREATE TABLE refunds (number BIGINT NOT NULL, cents BIGINT NOT NULL)";
    database.ask(refunds, &[]).await?;
    Ok(())
}

pub(super) async fn charge<D: Database>(tx: &mut D::Tx, order: &Order) -> Result<(), Refusal> {
    if order.card == BAD_CARD {
        return Err(Refusal::Definite("card declined"));
    }
    D::query(tx, "INSERT INTO charges VALUES ($1, $2)", &[order.number, order.cents]).await?;
    Ok(())
}

pub(super) async fn refund<D: Database>(tx: &mut D::Tx, order: &Order) -> Result<(), Refusal> {
    D::query(tx, "INSERT INTO refunds VALUES ($1, $2)", &[order.number, order.cents]).await?;
    Ok(())
}
