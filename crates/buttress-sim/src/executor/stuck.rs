//! [`Stuck`]: the report of a run that cannot continue. `mod.rs` decides when a run is stuck.

use std::time::Duration;

/// Why a run cannot continue.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stuck {
    /// No task is ready and no timer is set: no further event is possible.
    #[error("deadlock at {at:?}: no timer is set, and these wait: {}", list(.parked))]
    Deadlock {
        /// The time since the clock was made.
        at: Duration,
        /// The names of the waiting tasks.
        parked: Vec<String>,
    },
    /// Tasks keep waking each other, and the time does not move.
    #[error("livelock at {at:?}: time stands still, and these tasks keep running: {}", list(.spinning))]
    Livelock {
        /// The time since the clock was made.
        at: Duration,
        /// The names of the tasks that were polled last.
        spinning: Vec<String>,
    },
}

/// Lists at most twenty names.
fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    let shown: Vec<&str> = names.iter().take(MOST).map(String::as_str).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
