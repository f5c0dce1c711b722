//! Types that all patterns share: errors, names, events, outcomes, clocks.

pub(crate) mod causes;
pub(crate) mod classify;
pub(crate) mod clock;
pub(crate) mod codec;
pub(crate) mod cost;
#[cfg(feature = "serde")]
pub mod duration_text;
pub(crate) mod error;
#[cfg(feature = "metrics")]
pub(crate) mod event_counters;
pub(crate) mod id;
pub(crate) mod instrument;
pub(crate) mod invalid_config;
pub(crate) mod metric_names;

pub(crate) mod mode;
pub(crate) mod name;
pub(crate) mod observe;
pub(crate) mod pattern;
pub(crate) mod reading;
pub(crate) mod reject;
pub(crate) mod rng;
pub(crate) mod setters;
pub(crate) mod spawn;
pub(crate) mod store_error;
pub(crate) mod until;
pub(crate) mod words;
