//! The configuration of the ejection. `state.rs` decides when an endpoint goes out, and that
//! at most half of the endpoints are out.

use std::time::Duration;

use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::setters::{document, setters};

document! {
    /// The rules for ejecting an endpoint that fails, and for taking it back after a time.
    ///
    /// The balancer ejects an endpoint after a number of failures in a row, or when the share of failures in a time
    /// window is too large. The endpoint is out for [`away`](Self::away) times the number of its ejections, at most
    /// [`longest`](Self::longest), with a jitter of 10 %. The number falls by one for each `away` that the endpoint
    /// then stays in. At most half of the endpoints are ejected at the same time, rounded down, so the only one never
    /// is. Endpoints that are marked down or rest do not count towards this half.
    ///
    /// The defaults are 5 failures in a row, or half of at least 20 calls in 10 seconds. An endpoint is then out for 10
    /// seconds times the number of its ejections, at most 300 seconds.
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub struct Outliers {
        consecutive_failures: u32 = 5,
        failure_rate: f64 = 0.5,
        minimum_calls: u32 = 20,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        window: Duration = Duration::from_secs(10),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        away: Duration = Duration::from_secs(10),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        longest: Duration = Duration::from_secs(300),
    }
}

impl Outliers {
    setters! {
        /// Sets how many failures in a row take an endpoint out. Default: 5. At least 1.
        consecutive_failures(failures: u32);

        /// Sets the share of failures in the window that takes an endpoint out. Default: 0.5. Above 0, at most 1.
        failure_rate(share: f64);

        /// Sets how many calls the window must have before the share of failures counts. Default: 20. At least 1.
        minimum_calls(calls: u32);

        /// Sets the length of the window. Default: 10 seconds. Longer than zero, at most 365 days. It cannot change
        /// while the balancer runs.
        window(window: Duration);

        /// Sets how long an endpoint is out the first time. Default: 10 seconds. Longer than zero, at most 365 days.
        away(time: Duration);

        /// Sets the longest time that an endpoint is out. Default: 300 seconds. At least [`away`](Self::away), at most
        /// 365 days.
        longest(time: Duration);
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_at_least("eject.consecutive-failures", self.consecutive_failures, 1)?;
        check_at_least("eject.minimum-calls", self.minimum_calls, 1)?;
        if !(self.failure_rate > 0.0 && self.failure_rate <= 1.0) {
            let (rate, bound) = (self.failure_rate, "above 0 and at most 1");
            return Err(InvalidConfig::new("eject.failure-rate", rate, bound));
        }
        check_duration("eject.window", self.window)?;
        check_duration("eject.away", self.away)?;
        check_duration("eject.longest", self.longest)?;
        if self.longest < self.away {
            let (longest, bound) = (format!("{:?}", self.longest), "at least eject.away");
            return Err(InvalidConfig::new("eject.longest", longest, bound));
        }
        Ok(())
    }
}
