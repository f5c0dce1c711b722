//! Reports of layers: [`Event`], [`Observer`], `tracing`, and `metrics` (with the feature
//! `metrics`).

mod common;
mod event;
mod observer;
mod report;
pub mod simulated;

pub(crate) use common::{Common, common_setters};
pub use event::{Absence, CircuitState, Event, GaveUp};
pub use observer::Observer;
pub(crate) use report::Say;

#[cfg(all(test, feature = "metrics", not(buttress_loom)))]
mod tests;
