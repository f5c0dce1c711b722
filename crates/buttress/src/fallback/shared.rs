//! What every service of one layer shares.

use std::sync::Arc;

use super::config::Config;
use crate::machinery::counters::Counters;
use crate::vocabulary::observe::Common;

pub(super) const USED: usize = 0;
pub(super) const FAILED: usize = 1;
pub(super) const CALLS: usize = 2;

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: Counters<3>,
    pub(super) common: Common,
}

impl Shared {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common: config.common })
    }

    #[inline]
    pub(super) fn begin(&self) {
        if self.common.count_calls {
            self.counters.add(CALLS);
        }
    }

    pub(super) fn fell_back(&self) {
        self.counters.add(USED);
        self.common.fell_back(false);
    }

    pub(super) fn failed(&self) {
        self.counters.add(FAILED);
        self.common.fell_back(true);
    }
}
