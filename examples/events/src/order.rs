//! The message about a placed order, for billing and shipping.

use buttress_durable::event::DomainEvent;
use serde::{Deserialize, Serialize};

/// A customer has placed an order. The events of one customer stay in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub number: i64,
    pub customer: i64,
    pub cents: i64,
}

impl DomainEvent for OrderPlaced {
    const KINDS: &'static [(&'static str, u32)] = &[("order.placed", 1)];

    fn kind(&self) -> &'static str {
        "order.placed"
    }

    fn subject(&self) -> String {
        format!("customer-{}", self.customer)
    }
}
