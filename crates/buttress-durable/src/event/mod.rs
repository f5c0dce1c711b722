#![doc = include_str!("../guide/events.md")]

mod attributes;
mod binding;
mod cause;
mod decode;
mod domain;
mod encode;
mod envelope;
mod error;
mod events;
mod id;
mod percent;
mod receive;
mod timestamp;

pub use binding::Binding;
pub use decode::Decoded;
pub use domain::DomainEvent;
pub use envelope::Event;
pub use error::{DecodeError, EncodeError, UnknownEvent};
pub use events::Events;
pub use id::EventId;

pub(crate) use attributes::{KIND, SUBJECT};
pub(crate) use cause::{current_headers, scope_of, scope_under};
pub(crate) use domain::newest;

#[cfg(all(test, not(buttress_loom)))]
mod tests;
