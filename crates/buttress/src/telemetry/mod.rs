#![doc = include_str!("../guide/observability.md")]

#[cfg(feature = "metrics")]
mod durations;
mod sampler;

#[cfg(feature = "metrics")]
pub use durations::{DurationLayer, Measured, ResponseFuture};
pub use sampler::Sampler;

pub use crate::vocabulary::instrument::{Instrument, InstrumentKind, Unit};
pub use crate::vocabulary::metric_names::INSTRUMENTS;
pub use crate::vocabulary::reading::{Reading, Refresh, Sample, Source};
