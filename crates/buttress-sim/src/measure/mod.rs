//! The measurements of a run.

mod cause;
mod histogram;
mod latencies;
mod phases;
mod recorded;
mod recorder;
mod series;
mod trace;
mod window;

pub use cause::{Cause, Ends};
pub use histogram::Histogram;
pub(crate) use latencies::Latencies;
pub use phases::{Phase, PhaseKind, Recovery, Trigger};
pub(crate) use phases::{Sample, find as find_phases, recovery};
pub(crate) use recorded::Recorded;
pub(crate) use recorder::{Recorder, SourceId};
pub use series::{Band, Gauge};
pub use trace::{Event, What};
pub use window::{StationWindow, Window};
