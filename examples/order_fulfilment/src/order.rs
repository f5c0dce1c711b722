//! What customers order, and what the services and the worker say to each other about it.

use buttress::Rng;
use serde::{Deserialize, Serialize};

pub(crate) const CUSTOMERS: i64 = 40;
pub(crate) const ITEMS: i64 = 20;
/// Of most items there is enough.
pub(crate) const STOCK: i64 = 1_000;
/// And of this one there is not.
pub(crate) const RARE_ITEM: i64 = 7;
pub(crate) const RARE_STOCK: i64 = 12;
/// The card that is always declined.
pub(crate) const BAD_CARD: i64 = 0;
/// Orders above it are refused at the very end, when they have been paid.
pub(crate) const CREDIT_LIMIT: i64 = 90_000;

/// What a saga is started with. Its number is also that of its saga, so that one order starts one saga
/// however often it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: i64,
    pub(crate) customer: i64,
    pub(crate) item: i64,
    pub(crate) quantity: i64,
    pub(crate) cents: i64,
    pub(crate) card: i64,
}

impl Order {
    /// One card in ten is bad, and one order in ten too dear.
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

/// What the services of a step are asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) order: Order,
    /// For the step that comes after the payment.
    pub(crate) receipt: Option<Receipt>,
}

/// The output of the step that charges the card.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) cents: i64,
}

/// What the ledger is told of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) customer: i64,
    /// Counts what was ever said of the customer, from 1.
    pub(crate) number: i64,
    pub(crate) order: i64,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    Placed,
    Confirmed,
    Cancelled,
}
