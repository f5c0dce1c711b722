//! What every service of one layer shares.

use std::sync::Arc;

use super::config::Config;
use crate::machinery::counters::{Counters, counters};
use crate::vocabulary::observe::Common;

counters! {
    /// The counters of a fallback.
    pub(super) enum Counter {
        Used,
        Failed,
        Calls,
    }
}

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: Counters<{ Counter::COUNT }, Counter>,
    pub(super) common: Common,
}

impl Shared {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common: config.common })
    }

    #[inline]
    pub(super) fn begin(&self) {
        if self.common.count_calls {
            self.counters.add(Counter::Calls);
        }
    }

    pub(super) fn fell_back(&self) {
        self.counters.add(Counter::Used);
        self.common.fell_back(false);
    }

    pub(super) fn failed(&self) {
        self.counters.add(Counter::Failed);
        self.common.fell_back(true);
    }
}
