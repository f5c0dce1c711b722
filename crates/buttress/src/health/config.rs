use std::time::Duration;

use crate::vocabulary::clock::Clock;
use crate::vocabulary::invalid_config::{InvalidConfig, check_duration};
use crate::vocabulary::setters::{document, setters};
use crate::vocabulary::spawn::Spawner;

document! {
    /// The configuration of a [`Health`](super::Health): how often its checks run, and how long each may take.
    ///
    /// Setters take the configuration by value. [`Health::with`](super::Health::with) checks it.
    #[derive(Clone, Debug)]
    pub struct Config {
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        interval: Duration = Duration::from_secs(10),
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        limit: Duration = Duration::from_secs(5),
    } and in code {
        clock: Clock = Clock::default(),
        spawner: Spawner = Spawner::default(),
    }
}

impl Config {
    setters! {
        /// Sets the time from one start of a check to its next start. A result that is older than three
        /// intervals is UNKNOWN.
        ///
        /// Default: 10 s, the default period of Kubernetes probes. Longer than zero, at most 365 days.
        interval(interval: Duration);

        /// Sets how long one run of a check may take. A run that takes longer is cancelled, and the
        /// check is DOWN with the text `timeout`.
        ///
        /// Default: 5 s. Longer than zero, at most the interval, so that every check starts once per
        /// interval.
        limit(limit: Duration);

        /// Sets the clock. Default: tokio's.
        clock(clock: Clock);

        /// Sets the executor of the checks. Default: `tokio::spawn`.
        spawner(spawner: Spawner);
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_duration("interval", self.interval)?;
        check_duration("limit", self.limit)?;
        if self.limit > self.interval {
            let bound = format!("at most the interval, {:?}", self.interval);
            return Err(InvalidConfig::new("limit", format!("{:?}", self.limit), bound));
        }
        Ok(())
    }
}
