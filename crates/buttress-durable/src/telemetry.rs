//! The metrics of this crate, for a [`Sampler`](buttress::telemetry::Sampler).
//!
//! [`Executor`](crate::saga::Executor), [`RelayHandle`](crate::outbox::RelayHandle),
//! [`ConsumerHandle`](crate::consume::ConsumerHandle), [`CountedBarrier`](crate::saga::CountedBarrier) and [`CountedInbox`](crate::outbox::CountedInbox)
//! are sources of the numbers of this process.
//! [`saga::Monitor`](crate::saga::Monitor) and [`outbox::Monitor`](crate::outbox::Monitor) are sources of the
//! state of a store, which all processes share. The page of
//! [`buttress::telemetry`] lists every metric.

pub use crate::metric_names::INSTRUMENTS;
