//! The order as an aggregate: its state is the sum of its events.

use std::fmt;

use buttress_durable::event::DomainEvent;
use buttress_durable::event_store::Aggregate;
use serde::{Deserialize, Serialize};

/// Pieces of one product, at one price.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    pub pieces: u32,
    /// The price of a piece.
    pub cents: i64,
}

/// An order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Order {
    pub customer: Option<i64>,
    pub items: Vec<Item>,
    pub is_submitted: bool,
}

impl Order {
    /// Returns the price of the order.
    pub(crate) fn cents(&self) -> i64 {
        self.items.iter().map(|item| i64::from(item.pieces) * item.cents).sum()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderCommand {
    Create { customer: i64 },
    Add(Item),
    Submit,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    Created { customer: i64 },
    ItemAdded(Item),
    Submitted,
}

impl DomainEvent for OrderEvent {
    const KINDS: &'static [(&'static str, u32)] =
        &[("order.created", 1), ("order.item-added", 1), ("order.submitted", 1)];

    fn kind(&self) -> &'static str {
        match self {
            Self::Created { .. } => "order.created",
            Self::ItemAdded(_) => "order.item-added",
            Self::Submitted => "order.submitted",
        }
    }

    fn subject(&self) -> String {
        "order".to_owned()
    }
}

/// The reason why an order refuses a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Exists,
    Unknown,
    Submitted,
    Empty,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "the order exists already",
            Self::Unknown => "the order does not exist",
            Self::Submitted => "the order is submitted",
            Self::Empty => "the order has no items",
        })
    }
}

impl Aggregate for Order {
    const KIND: &'static str = "order";
    type Event = OrderEvent;
    type Command = OrderCommand;
    type Error = Refusal;

    fn decide(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, Refusal> {
        let event = match *command {
            OrderCommand::Create { customer } if self.customer.is_none() => {
                OrderEvent::Created { customer }
            }
            OrderCommand::Create { .. } => return Err(Refusal::Exists),
            _ if self.customer.is_none() => return Err(Refusal::Unknown),
            _ if self.is_submitted => return Err(Refusal::Submitted),
            OrderCommand::Add(item) => OrderEvent::ItemAdded(item),
            OrderCommand::Submit if self.items.is_empty() => return Err(Refusal::Empty),
            OrderCommand::Submit => OrderEvent::Submitted,
        };
        Ok(vec![event])
    }

    fn apply(&mut self, event: &OrderEvent) {
        match *event {
            OrderEvent::Created { customer } => self.customer = Some(customer),
            OrderEvent::ItemAdded(item) => self.items.push(item),
            OrderEvent::Submitted => self.is_submitted = true,
        }
    }
}
