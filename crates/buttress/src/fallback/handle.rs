use std::fmt;
use std::sync::Arc;

use crate::counters::Counters;
use crate::observe::{Common, common_setters};

const USED: usize = 0;
const FAILED: usize = 1;
const CALLS: usize = 2;

/// Name, clock, observer and counting of a fallback. What it answers is said by the constructors of
/// [`FallbackLayer`](super::FallbackLayer).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Config {
    common: Common,
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    common_setters!();
}

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    counters: Counters<3>,
    common: Common,
}

impl Shared {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common: config.common })
    }

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

/// The operator's view of a fallback. Cheap to clone; all clones, and every service of the layer, share
/// one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            used: shared.counters.sum(USED),
            failed: shared.counters.sum(FAILED),
            calls: shared.common.count_calls.then(|| shared.counters.sum(CALLS)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.common.name)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A snapshot of a fallback.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Calls that failed and were given to the fallback.
    pub used: u64,
    /// Of these, the ones that ended with an error all the same.
    pub failed: u64,
    /// Calls begun; `None` unless [`count_calls`](Config::count_calls) is on.
    pub calls: Option<u64>,
}
