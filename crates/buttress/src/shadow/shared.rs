//! The state that the clones of a shadow share, and the slot of a mirrored call.

use std::sync::Arc;

use super::compare::Comparison;
use super::config::Config;
use super::state::{is_kept, take};
use crate::machinery::counters::{Counters, counters};
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::share::Share;
use crate::sync::{AtomicU64, Ordering};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::rng::Rng;

counters! {
    /// The counters of a shadow.
    pub(super) enum Counter {
        Mirrored,
        Dropped,
        Same,
        Incomparable,
        NotCompared,
        TimedOut,
        Panicked,
        Abandoned,
    }
}

/// The state that the clones of a shadow share.
#[derive(Debug)]
pub(crate) struct Shared {
    share: AtomicU64,
    /// Release when a slot is returned pairs with the Acquire of readers: a reader that sees no running call sees how
    /// each call ended.
    running: AtomicU64,
    different: AtomicU64,
    pub(super) config: Config,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
    pub(super) rng: Rng,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        let share = config.check()?;
        Ok(Arc::new(Self {
            share: AtomicU64::new(share.word()),
            running: AtomicU64::new(0),
            different: AtomicU64::new(0),
            config: config.clone(),
            counters: Counters::new(),
            common: config.common.of(Pattern::Shadow),
            rng: config.rng.clone().unwrap_or_default(),
        }))
    }

    #[inline(always)]
    pub(super) fn share(&self) -> Share {
        Share::of_word(self.share.load(Ordering::Relaxed))
    }

    pub(super) fn set_share(&self, share: Share) {
        self.share.store(share.word(), Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> u64 {
        self.running.load(Ordering::Acquire)
    }

    pub(super) fn different(&self) -> u64 {
        self.different.load(Ordering::Relaxed)
    }

    /// Counts a request that is not mirrored although it belongs to the share.
    #[cold]
    pub(super) fn dropped(&self) {
        self.counters.add(Counter::Dropped);
    }

    /// Counts a mirrored call that ended with a panic before it took a slot.
    #[cold]
    pub(super) fn panicked(&self) {
        self.counters.add(Counter::Mirrored);
        self.counters.add(Counter::Panicked);
    }

    /// Takes a slot for a mirrored call, or counts that there is none.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let most = self.config.max_running;
        // A counter only: the call that it admits is handed over by the executor.
        let taken =
            self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| take(it, most));
        if taken.is_err() {
            self.dropped();
            return None;
        }
        self.counters.add(Counter::Mirrored);
        Some(Slot { shared: self.clone(), end: Some(Counter::Abandoned) })
    }

    /// Counts the end of a comparison, and keeps one in some mismatches.
    fn compared(&self, comparison: &Comparison) {
        match comparison {
            Comparison::Same => self.counters.add(Counter::Same),
            Comparison::Incomparable => self.counters.add(Counter::Incomparable),
            Comparison::Skipped => self.counters.add(Counter::NotCompared),
            Comparison::Different(mismatch) => {
                let number = self.different.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if is_kept(number, self.config.keep_one_in) {
                    self.common.answers_differ(&mismatch.to_string());
                    if let Some(hook) = &self.config.on_mismatch {
                        hook(mismatch);
                    }
                }
            }
        }
    }
}

/// The place of a mirrored call. Dropping it without an end counts the call as abandoned.
pub(super) struct Slot {
    shared: Arc<Shared>,
    /// `None` once counted.
    end: Option<Counter>,
}

/// How a mirrored call ended.
pub(super) enum End {
    Compared(Comparison),
    TimedOut,
    Panicked,
}

impl Slot {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Counts and reports the end, and then returns the slot.
    pub(super) fn end(mut self, end: &End) {
        self.end = match end {
            End::Compared(comparison) => {
                self.end = None;
                self.shared.compared(comparison);
                None
            }
            End::TimedOut => Some(Counter::TimedOut),
            End::Panicked => Some(Counter::Panicked),
        };
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            self.shared.counters.add(end);
        }
        self.shared.running.fetch_sub(1, Ordering::Release);
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        let common = self.common.clone();
        Config { share: self.share().to_config(), common, ..self.config.clone() }
    }

    fn accepts(_old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check().map(drop)
    }

    fn apply(&self, config: &Config) {
        self.set_share(Share::of(config.share));
    }

    fn common(&self) -> &Common {
        &self.common
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_who_sees_that_no_call_is_running_sees_its_end() {
        loom::model(|| {
            let shared = Shared::new(&Config::new()).unwrap();
            let slot = shared.slot().unwrap();
            let mirror = loom::thread::spawn(move || slot.end(&End::Compared(Comparison::Same)));
            if shared.running() == 0 {
                assert_eq!(shared.counters.sum(Counter::Same), 1);
            }
            mirror.join().unwrap();
        });
    }
}
