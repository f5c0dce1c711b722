//! The orders of customers, and the messages between the services and the worker.

use buttress::Rng;
use serde::{Deserialize, Serialize};

pub(crate) const CUSTOMERS: i64 = 40;
pub(crate) const ITEMS: i64 = 20;
/// The stock of most items, enough for all orders.
pub(crate) const STOCK: i64 = 1_000;
/// The one item that runs out.
pub(crate) const RARE_ITEM: i64 = 7;
pub(crate) const RARE_STOCK: i64 = 12;
/// The card that is always declined.
pub(crate) const BAD_CARD: i64 = 0;
/// Orders above it are refused in the last step, after the payment.
pub(crate) const CREDIT_LIMIT: i64 = 90_000;

/// The input of a saga. The number of the order is the id of its saga, so that a repeated order
/// starts one saga.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub number: i64,
    pub customer: i64,
    pub item: i64,
    pub quantity: i64,
    pub cents: i64,
    pub card: i64,
}

impl Order {
    /// Draws an order. One card in ten is bad, and one order in ten exceeds the limit.
    pub(crate) fn draw(number: i64, rng: &Rng) -> Self {
        let draw = |low: i64, high: i64| rng.between(low as u64, high as u64) as i64;
        Self {
            number,
            customer: draw(1, CUSTOMERS),
            item: draw(1, ITEMS),
            quantity: draw(1, 3),
            cents: draw(1, 100) * CREDIT_LIMIT / 90,
            card: draw(BAD_CARD, 9),
        }
    }
}

/// The request to the service of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub order: Order,
    /// The receipt, for the step after the payment.
    pub receipt: Option<Receipt>,
}

/// The output of the step that charges the card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub cents: i64,
}

/// A message about an order to the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct News {
    pub customer: i64,
    /// The number of the message among all messages about the customer, from 1.
    pub number: i64,
    pub order: i64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    Placed,
    Confirmed,
    Cancelled,
}
