//! The order of line 12.

use serde::{Deserialize, Serialize};

use crate::event::DomainEvent;
use crate::event_store::Aggregate;

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Order {
    pub created: bool,
    pub submitted: bool,
    /// Numbers and prices in cents.
    pub items: Vec<(u32, u64)>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum OrderEvent {
    Created,
    Added { number: u32, cents: u64 },
    Submitted,
}

#[derive(Clone, Debug)]
pub(super) enum OrderCommand {
    Create,
    Add {
        number: u32,
        cents: u64,
    },
    /// Adds that many items of one cent with one command.
    AddMany(u32),
    Submit,
    /// Causes an event that `KINDS` does not name.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the order exists already")]
    Exists,
    #[error("the order does not exist")]
    Unknown,
    #[error("the order is submitted")]
    Submitted,
    #[error("the order has no items")]
    Empty,
}

impl Order {
    pub(super) fn total(&self) -> u64 {
        self.items.iter().map(|(number, cents)| u64::from(*number) * cents).sum()
    }
}

impl DomainEvent for OrderEvent {
    const KINDS: &'static [(&'static str, u32)] =
        &[("order.created", 1), ("order.added", 2), ("order.submitted", 1)];

    fn kind(&self) -> &'static str {
        match self {
            Self::Created => "order.created",
            Self::Added { .. } => "order.added",
            Self::Submitted => "order.submitted",
        }
    }

    fn subject(&self) -> String {
        String::new()
    }
}

impl Aggregate for Order {
    const KIND: &'static str = "order";
    type Event = OrderEvent;
    type Command = OrderCommand;
    type Error = Refusal;

    fn decide(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, Refusal> {
        if !self.created && !matches!(command, OrderCommand::Create) {
            return Err(Refusal::Unknown);
        }
        if self.submitted {
            return Err(Refusal::Submitted);
        }
        match command {
            OrderCommand::Create if self.created => Err(Refusal::Exists),
            OrderCommand::Create => Ok(vec![OrderEvent::Created]),
            OrderCommand::Add { number, cents } => {
                Ok(vec![OrderEvent::Added { number: *number, cents: *cents }])
            }
            OrderCommand::AddMany(many) => {
                Ok((0..*many).map(|_| OrderEvent::Added { number: 1, cents: 1 }).collect())
            }
            OrderCommand::Submit if self.items.is_empty() => Err(Refusal::Empty),
            OrderCommand::Submit => Ok(vec![OrderEvent::Submitted]),
            OrderCommand::Nothing => Ok(Vec::new()),
        }
    }

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Created => self.created = true,
            OrderEvent::Added { number, cents } => self.items.push((*number, *cents)),
            OrderEvent::Submitted => self.submitted = true,
        }
    }
}
