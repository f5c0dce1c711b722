use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::compare::Mismatch;
use crate::machinery::share::Share;
use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;
use crate::vocabulary::setters::{setters, settings};
use crate::vocabulary::spawn::Spawner;

/// A callback that is called with the mismatches that are kept.
pub(super) type Hook = Arc<dyn Fn(&Mismatch) + Send + Sync>;

settings! {
    /// The configuration of a shadow. The default share of mirrored requests is 0.
    ///
    /// Setters take the configuration by value. The constructor of the shadow checks it.
    #[derive(Clone)]
    pub struct Config {
        share: f64 = 0.0,
        max_running: u64 = 32,
        within: Duration = Duration::from_secs(10),
        keep_one_in: u64 = 100,
        on_mismatch: Option<Hook> = None,
        spawner: Spawner = Spawner::default(),
        rng: Option<Rng> = None,
        common: Common = Common::default(),
    }
}

impl Config {
    setters! {
        /// Sets the share of the requests that are mirrored. Default: 0, because a mirror doubles the load of the
        /// services that both use. From 0 to 1, and both are exact.
        share(share: f64);

        /// Sets how many mirrored calls may run concurrently. Beyond, requests are not mirrored, and counted. Default:
        /// 32, so that a slow mirror holds little memory. At least 1.
        max_running(calls: u64);

        /// Sets how long a mirrored call and its comparison may take. Default: 10 seconds, because a mirror that hangs
        /// must release its slot. Longer than zero, at most 365 days.
        within(limit: Duration);

        /// Sets that the first of each `n` mismatches is kept: it is an event, and the callback gets it. All are
        /// counted. Default: 100, because a new service that differs everywhere differs in every request. At least 1.
        keep_one_in(n: u64);

        /// Sets the executor of mirrored calls. Default: tokio's.
        spawner(spawner: Spawner);

        /// Sets the source of random draws. Default: a source with a different seed in every process.
        rng(rng: Rng) => Some(rng);
    }

    /// Sets a callback for the mismatches that are kept. It runs on the task of the mirrored call, which holds its slot
    /// meanwhile. Default: none.
    pub fn on_mismatch(mut self, hook: impl Fn(&Mismatch) + Send + Sync + 'static) -> Self {
        self.on_mismatch = Some(Arc::new(hook));
        self
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<Share, InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<Share, InvalidConfig> {
        check_at_least("max-running", self.max_running, 1)?;
        check_at_least("keep-one-in", self.keep_one_in, 1)?;
        check_duration("within", self.within)?;
        Share::checked("share", self.share)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("share", &self.share).finish_non_exhaustive()
    }
}
