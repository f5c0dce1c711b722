use std::sync::Arc;

use super::config::Config;
use super::shared::{Counter, Shared};
use crate::machinery::reconfigure::{Reconfigure as _, operated};
use crate::machinery::share::Share;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reading::snapshot;

/// The handle of a shadow, for operators. Cheap to clone.
///
/// All clones, and every clone of the shadow, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Sets the share of mirrored requests, from 0 to 1, for calls that begin from now on.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1. Nothing changes then.
    pub fn share(&self, share: f64) -> Result<(), InvalidConfig> {
        self.shared.set_share(Share::checked("share", share)?);
        self.shared.announce();
        Ok(())
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        // Read first: a call that runs no more has been counted.
        let running = shared.running();
        let sum = |counter| shared.counters.sum(counter);
        Stats {
            share: shared.share().as_f64(),
            running,
            mirrored: sum(Counter::Mirrored),
            dropped: sum(Counter::Dropped),
            same: sum(Counter::Same),
            different: shared.different(),
            incomparable: sum(Counter::Incomparable),
            not_compared: sum(Counter::NotCompared),
            timed_out: sum(Counter::TimedOut),
            panicked: sum(Counter::Panicked),
            abandoned: sum(Counter::Abandoned),
        }
    }
}

operated! {
    /// Sets the share of mirrored requests to the share of `config`. The other settings stay.
    ///
    /// # Errors
    /// Returns an error that names the first field of `config` that is out of its bounds. Nothing changes then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a shadow.
    ///
    /// [`mirrored`](Self::mirrored) is the sum of `running` and the seven ends `same` to `abandoned`, once no call begins or
    /// ends meanwhile.
    pub struct Stats: Copy {
        /// The share of mirrored requests, from 0 to 1.
        pub share: f64,
        /// Mirrored calls in progress. A call is counted as ended before it leaves this number.
        pub running: u64,
        /// The number of mirrored calls that have begun.
        pub mirrored: u64,
        /// Requests that were not mirrored because every slot was taken, or because their body was not recorded whole.
        pub dropped: u64,
        /// Answers that were equal.
        pub same: u64,
        /// Answers that differed.
        pub different: u64,
        /// Answers that could not be compared, because one of them was not complete.
        pub incomparable: u64,
        /// Mirrored calls whose answer was not compared. All answers under [`NotCompared`](super::NotCompared).
        pub not_compared: u64,
        /// Mirrored calls that were open at their limit.
        pub timed_out: u64,
        /// Mirrored calls that panicked, at any point from the clone of the mirror to the comparison.
        pub panicked: u64,
        /// Mirrored calls that were dropped: with their runtime, or because the executor started no task for them.
        pub abandoned: u64,
    }
}
