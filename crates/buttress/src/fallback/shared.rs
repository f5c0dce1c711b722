//! The state that the services of one layer share.

use std::sync::Arc;

use super::config::Config;
use super::recover::Shareable;
use crate::machinery::counters::{Counters, counters};
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;

counters! {
    /// The counters of a fallback.
    pub(super) enum Counter {
        Used,
        Failed,
        Calls,
    }
}

/// The state that the services of one layer share.
pub(super) struct Shared {
    /// The answer of a [`Value`](super::Value) fallback, and `()` for the other kinds.
    pub value: Arc<Shareable>,
    pub counters: Counters<Counter>,
    pub common: Common,
}

impl Shared {
    pub(super) fn new(config: Config, value: Arc<Shareable>) -> Arc<Self> {
        let common = config.common.of(Pattern::Fallback);
        Arc::new(Self { value, counters: Counters::new(), common })
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
