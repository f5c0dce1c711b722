//! The parts that several patterns share: queues, windows, counters, maps of keys.

pub(crate) mod backpressure;
pub(crate) mod caught;
pub(crate) mod cloned;
pub(crate) mod counters;
pub(crate) mod ended;
pub(crate) mod guard;
pub(crate) mod instances;
pub(crate) mod key_map;
pub(crate) mod keyed;
pub(crate) mod limited;
pub(crate) mod oneshot;
pub(crate) mod own;
pub(crate) mod published;
pub(crate) mod queue;
pub(crate) mod queued;
pub(crate) mod reconfigure;
pub(crate) mod share;
pub(crate) mod waiting;
pub(crate) mod wakers;
pub(crate) mod window;
