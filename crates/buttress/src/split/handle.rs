use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::shared::{Counter, Shared};
use crate::machinery::reconfigure::{Reconfigure as _, operated};
use crate::machinery::share::Share;
use crate::vocabulary::invalid_config::{InvalidConfig, check_not_endless};
use crate::vocabulary::reading::snapshot;

/// The handle of a split, for operators. Cheap to clone.
///
/// All clones, and every clone of the split, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Creates the state of splits that are not made yet, for [`Split::with_handle`](super::Split::with_handle).
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1.
    pub fn new(config: &Config) -> Result<Self, InvalidConfig> {
        Ok(Self { shared: Shared::new(config)? })
    }

    /// Sets the share of the new side, from 0 to 1, for calls that begin from now on. It ends a ramp.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1. Nothing changes then.
    pub fn share(&self, share: f64) -> Result<(), InvalidConfig> {
        self.ramp_to(share, Duration::ZERO)
    }

    /// Changes the share evenly from `from` to `to` within `time`, beginning now. At most 365 days; zero sets `to`
    /// immediately. It replaces a ramp. No task drives a ramp: each call computes its share.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1, or a time that is too long. Nothing changes then.
    pub fn ramp(&self, from: f64, to: f64, time: Duration) -> Result<(), InvalidConfig> {
        self.change(Some(Share::checked("from", from)?), to, time)
    }

    /// Changes the share evenly from the current one to `to` within `time`. Otherwise like [`ramp`](Self::ramp).
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1, or a time that is too long. Nothing changes then.
    pub fn ramp_to(&self, to: f64, time: Duration) -> Result<(), InvalidConfig> {
        self.change(None, to, time)
    }

    fn change(&self, from: Option<Share>, to: f64, time: Duration) -> Result<(), InvalidConfig> {
        let to = Share::checked("share", to)?;
        check_not_endless("time", time)?;
        self.shared.change(from, to, time);
        self.shared.announce();
        Ok(())
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let counted = |counter| shared.common.count_calls.then(|| shared.counters.sum(counter));
        Stats {
            share: shared.share().as_f64(),
            target: shared.course.ramp().to.as_f64(),
            old: counted(Counter::Old),
            new: counted(Counter::New),
            forced: counted(Counter::Forced),
            fell_back: shared.counters.sum(Counter::FellBack),
        }
    }
}

operated! {
    /// Sets the share to the share of `config`, unless that share is the target already: its ramp then continues.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1, or another salt, which would move keys to the other
    /// side. Nothing changes then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a split.
    pub struct Stats: Copy {
        /// The share of the new side now, from 0 to 1.
        pub share: f64,
        /// The share at the end of the current ramp, or the share if there is no ramp.
        pub target: f64,
        /// Requests that went to the old side first. `None` unless [`count_calls`](Config::count_calls) is on.
        pub old: Option<u64>,
        /// Requests that went to the new side. `None` unless [`count_calls`](Config::count_calls) is on.
        pub new: Option<u64>,
        /// Requests that chose their side. They count for that side too. `None` unless
        /// [`count_calls`](Config::count_calls) is on.
        pub forced: Option<u64>,
        /// Requests of the new side that went to the old side after that. They do not count in [`old`](Self::old).
        pub fell_back: u64,
    }
}
