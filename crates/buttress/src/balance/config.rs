use std::time::Duration;

use super::outliers::Outliers;
use crate::vocabulary::invalid_config::{InvalidConfig, check_not_endless};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;
use crate::vocabulary::setters::{configuration, setters};
use crate::vocabulary::words::words;

/// The rule by which a balancer chooses the endpoint of a call.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Policy {
    /// Draws two endpoints and takes the one with the smaller load: the measure of its latency, times its pending
    /// calls and one, divided by its weight. The default.
    ///
    /// The measure rises to the latency of a slower answer immediately, and falls by 63 % in 10 seconds. One call in
    /// 256 goes to the endpoint with the larger load, so that a slow endpoint is measured again.
    #[default]
    PeakEwma,
    /// Draws two endpoints and takes the one with fewer pending calls for its weight. Use it for calls whose cost
    /// differs more between requests than between endpoints.
    ///
    /// A failure or a refusal doubles the load of its endpoint, up to 20 times. This falls by 63 % in 10 seconds.
    LeastPending,
    /// Takes the endpoints in turn. While the set and its weights stay, an endpoint gets exactly its share of each
    /// round, spread over the round. A round has as many calls as all weights have together.
    RoundRobin,
}

words! {
    /// Returns the policy in kebab case, for logs and documents.
    Policy {
        PeakEwma => "peak-ewma", LeastPending => "least-pending", RoundRobin => "round-robin",
    }
}

configuration! {
    /// The configuration of a balancer.
    ///
    /// Setters take the configuration by value. The constructor of the balancer checks it.
    ///
    /// The defaults are [`Policy::PeakEwma`], no ejection, a wait of at most 1 second, and 10 seconds until a new
    /// endpoint gets its whole share.
    #[derive(Clone, Debug)]
    pub struct Config {
        policy: Policy = Policy::default(),
        eject: Option<Outliers> = None,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        max_wait: Duration = Duration::from_secs(1),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        ramp: Duration = Duration::from_secs(10),
    } and in code {
        rng: Option<Rng> = None,
    }
}

impl Config {
    setters! {
        /// Sets the rule by which the balancer chooses. Default: [`Policy::PeakEwma`].
        policy(policy: Policy);

        /// Sets when the balancer ejects an endpoint that fails, and for how long. Default: never, because a result
        /// must be classified rightly first.
        eject(outliers: Outliers) => Some(outliers);

        /// Sets how long a call waits for an endpoint that can take it. Default: 1 second, because a caller can do
        /// more with a fast refusal than with a slow one. The deadline of the request ends the wait earlier. At most
        /// 365 days. Zero refuses without waiting.
        max_wait(wait: Duration);

        /// Sets how long a new endpoint takes to get its whole share. Default: 10 seconds, because a process that has
        /// just started has cold caches and no connections. At most 365 days. Zero means immediately.
        ///
        /// Endpoints of the first set do not ramp, and neither do calls with a key.
        ramp(time: Duration);

        /// Sets the source of random draws and jitter. Default: a source with a different seed in every process.
        rng(rng: Rng) => Some(rng);
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        self.eject.as_ref().map_or(Ok(()), Outliers::check)?;
        check_not_endless("max-wait", self.max_wait)?;
        check_not_endless("ramp", self.ramp)
    }
}
