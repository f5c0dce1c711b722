use std::time::Duration;

use crate::machinery::window::{LARGEST_COUNT, TimeWindow};
use crate::vocabulary::classify::Outcome;
#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::invalid_config::{
    InvalidConfig, check_at_least, check_duration, check_range,
};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::setters::{configuration, setters};

configuration! {
    /// The configuration of a circuit breaker: when the circuit opens, for how long, and how it closes
    /// again.
    ///
    /// Setters take the configuration by value. The constructor of the layer checks it.
    ///
    /// With the defaults, 5 failures in a row open the circuit for 30 seconds. Then one probe runs, and
    /// its success closes the circuit.
    #[derive(Clone, Debug)]
    pub struct Config {
        consecutive_failures: u32 = 5,
        failure_rate: Option<f64> = None,
        slow_call_rate: Option<f64> = None,
        #[cfg_attr(feature = "serde", serde(deserialize_with = "duration_text::optional"))]
        slow_call_duration: Option<Duration> = None,
        count_window: u32 = 100,
        #[cfg_attr(feature = "serde", serde(deserialize_with = "duration_text::optional"))]
        time_window: Option<Duration> = None,
        min_calls: u32 = 10,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        open_for: Duration = Duration::from_secs(30),
        open_factor: f64 = 1.0,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        max_open_for: Duration = Duration::from_secs(600),
        honour_hint: bool = false,
        half_open_calls: u32 = 1,
        successes_to_close: u32 = 1,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        probe_lease: Duration = Duration::from_secs(60),
        dropped_calls: Outcome = Outcome::Ignored,
        panicked_calls: Outcome = Outcome::Failure,
    }
}

impl Config {
    /// Opens the circuit after this number of failures without a success between them.
    ///
    /// Default: 5. At least 1. This rule needs no window and detects a dead service at any rate of
    /// calls. It removes [`failure_rate`](Self::failure_rate) and [`slow_calls`](Self::slow_calls).
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self.failure_rate = None;
        self.slow_call_rate = None;
        self.slow_call_duration = None;
        self
    }

    setters! {
        /// Opens the circuit when this share of the calls in the window, or more, failed, instead of
        /// after failures in a row.
        ///
        /// The share is checked at each failure. Above 0, at most 1. Default: unset.
        failure_rate(share: f64) => Some(share);
    }

    /// Opens the circuit when this share of the calls in the window, or more, took `duration` or
    /// longer, failed or not.
    ///
    /// Above 0, at most 1. Failures are then judged by rate too, at 0.5 if no
    /// [`failure_rate`](Self::failure_rate) is set. Default: unset.
    pub fn slow_calls(mut self, duration: Duration, share: f64) -> Self {
        self.slow_call_duration = Some(duration);
        self.slow_call_rate = Some(share);
        self
    }

    /// Computes rates over the last `calls` calls. Default: 100 calls. Between 1 and 4095.
    pub fn count_window(mut self, calls: u32) -> Self {
        self.count_window = calls;
        self.time_window = None;
        self
    }

    setters! {
        /// Computes rates over the calls of the last `length`, in twenty slices. Default: unset, so the count
        /// window is used. Above zero, at most 365 days. A call counts for at least 19 twentieths of
        /// `length`, and never longer than `length`.
        time_window(length: Duration) => Some(length);

        /// Sets how many calls the window must hold before rates are judged. Default: 10, so that the
        /// first failure of a quiet service is not a rate of 100 %. At least 1, at most the count
        /// window.
        min_calls(calls: u32);

        /// Sets how long the circuit stays open before it probes. Default: 30 seconds, which is long
        /// enough for a restart. Longer than zero, at most 365 days.
        open_for(time: Duration);
    }

    /// Multiplies the open time by `factor` at each failed probe, up to `longest`. Closing the
    /// circuit resets it. Default: 1, a fixed open time. At least 1.
    pub fn growing(mut self, factor: f64, longest: Duration) -> Self {
        self.open_factor = factor;
        self.max_open_for = longest;
        self
    }

    /// Keeps the circuit open at least as long as the hint of the failure that opened it, up to
    /// `longest`.
    ///
    /// [`Classify::retry_after`](crate::Classify::retry_after) returns the hint. Default: off.
    pub fn honour_hint(mut self, longest: Duration) -> Self {
        self.honour_hint = true;
        self.max_open_for = longest;
        self
    }

    setters! {
        /// Sets how many probes may run concurrently while the circuit is half-open. Default: 1, so
        /// that a recovering service meets little load. At least 1.
        half_open_calls(calls: u32);

        /// Sets how many probes must succeed to close the circuit. Default: 1. At least 1. A probe that
        /// fails opens the circuit again and resets the count.
        successes_to_close(successes: u32);

        /// Sets how long a probe may stay unsettled before another probe takes its place, so that a
        /// hung call cannot keep the circuit half-open forever. Default: 60 seconds, beyond most time
        /// limits. Longer than zero, at most 365 days.
        probe_lease(time: Duration);

        /// Sets the outcome of a call that is dropped before it ended. Default: `Ignored`, because
        /// callers drop calls for their own reasons. If a time limit is *outside* of the breaker,
        /// choose `Failure`.
        dropped_calls(outcome: Outcome);

        /// Sets the outcome of a call whose inner service panics. Default: `Failure`.
        panicked_calls(outcome: Outcome);
    }

    common_setters!();

    /// Returns the kind and size of the window, for messages.
    pub(super) fn window_text(&self) -> String {
        match self.time_window {
            _ if !self.by_rate() => "failures in a row".to_owned(),
            Some(length) => format!("a window of {length:?}"),
            None => format!("a window of {} calls", self.count_window),
        }
    }

    /// Returns `true` if rates over a window decide, instead of failures in a row.
    pub(super) fn by_rate(&self) -> bool {
        self.failure_rate.is_some() || self.slow_call_rate.is_some()
    }

    /// Checks that these rules fit the window of a circuit that was made with `old`.
    pub(super) fn keeps_window(&self, old: &Self) -> Result<(), InvalidConfig> {
        let slices = |length| TimeWindow::new(length).length();
        let (field, fits) = match (old.time_window, self.time_window) {
            _ if !old.by_rate() || !self.by_rate() => {
                ("failure-rate", old.by_rate() == self.by_rate())
            }
            (None, None) => ("count-window", old.count_window == self.count_window),
            (Some(old), Some(new)) => ("time-window", slices(old) == slices(new)),
            (_, _) => ("time-window", false),
        };
        if fits {
            return Ok(());
        }
        let bound = "the window that the circuit was made with; its kind and size cannot change \
                     while the circuit runs";
        Err(InvalidConfig::new(field, self.window_text(), bound))
    }

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        check_at_least("consecutive-failures", self.consecutive_failures, 1)?;
        check_share("failure-rate", self.failure_rate)?;
        check_share("slow-call-rate", self.slow_call_rate)?;
        check_range("count-window", self.count_window, 1, LARGEST_COUNT)?;
        for (field, time) in [
            ("slow-call-duration", self.slow_call_duration),
            ("time-window", self.time_window),
            ("open-for", Some(self.open_for)),
            ("max-open-for", Some(self.max_open_for)),
            ("probe-lease", Some(self.probe_lease)),
        ] {
            time.map_or(Ok(()), |time| check_duration(field, time))?;
        }
        match (self.slow_call_rate, self.slow_call_duration) {
            (Some(_), None) => {
                return Err(InvalidConfig::new(
                    "slow-call-duration",
                    "unset",
                    "set together with slow-call-rate",
                ));
            }
            (None, Some(_)) => {
                return Err(InvalidConfig::new(
                    "slow-call-rate",
                    "unset",
                    "set together with slow-call-duration",
                ));
            }
            _ => {}
        }
        check_at_least("min-calls", self.min_calls, 1)?;
        if self.by_rate() && self.time_window.is_none() && self.min_calls > self.count_window {
            let bound = format!("at most the count-window, {}", self.count_window);
            return Err(InvalidConfig::new("min-calls", self.min_calls, bound));
        }
        if !self.open_factor.is_finite() {
            return Err(InvalidConfig::new("open-factor", self.open_factor, "a finite number"));
        }
        check_at_least("open-factor", self.open_factor, 1.0)?;
        check_at_least("half-open-calls", self.half_open_calls, 1)?;
        check_at_least("successes-to-close", self.successes_to_close, 1)
    }
}

fn check_share(field: &str, share: Option<f64>) -> Result<(), InvalidConfig> {
    match share {
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            Err(InvalidConfig::new(field, share, "above 0 and at most 1"))
        }
        _ => Ok(()),
    }
}
