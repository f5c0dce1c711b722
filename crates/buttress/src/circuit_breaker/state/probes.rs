//! Open and half-open: how long a circuit stays open, and the places and leases of its probes.
//! `settle.rs` counts the successes of probes, and closes the circuit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ticket::{ASIDE, UNCOUNTED};
use crate::circuit_breaker::config::Config;
use crate::machinery::window::Tally;

/// The largest number of a probe that a ticket can hold. Numbers start at 1. One more is the probe that stepped aside.
const MOST_PROBES: u32 = ASIDE - UNCOUNTED - 1;

/// The data that changes rarely, and the rules for it.
#[derive(Debug)]
pub(super) struct Machine {
    pub rules: Arc<Config>,
    /// Probes in progress, each with its number and start.
    pub probes: Vec<(u32, Instant)>,
    pub last_probe: u32,
    pub successes: u32,
    /// Failed probes since the circuit was last closed.
    pub reopened: u32,
    /// How long the circuit opened last, in nanoseconds.
    pub opened_for: u64,
    /// The numbers that a window of time held when its circuit stopped counting.
    pub counted: Tally,
}

impl Machine {
    pub(super) fn new(config: &Arc<Config>) -> Self {
        Self {
            rules: config.clone(),
            probes: Vec::new(),
            last_probe: 0,
            successes: 0,
            reopened: 0,
            opened_for: 0,
            counted: Tally::default(),
        }
    }

    /// Returns `open_for x factor^reopened`, at least the hint, at most the longest open time.
    pub(super) fn open_time(&self, hint: Option<Duration>) -> Duration {
        let rules = &*self.rules;
        let grown = if rules.open_factor > 1.0 && self.reopened > 0 {
            let exponent = i32::try_from(self.reopened).unwrap_or(i32::MAX);
            let seconds = rules.open_for.as_secs_f64() * rules.open_factor.powi(exponent);
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        } else {
            rules.open_for
        };
        let hint = hint.filter(|_| rules.honour_hint).unwrap_or_default();
        grown.max(hint).min(rules.max_open_for.max(rules.open_for))
    }

    fn most_probes(&self) -> usize {
        self.rules.half_open_calls as usize
    }

    pub(super) fn hung(&self, now: Instant) -> Option<usize> {
        let hung = |(_, since): &(u32, Instant)| {
            now.saturating_duration_since(*since) >= self.rules.probe_lease
        };
        self.probes.iter().position(hung)
    }

    pub(super) fn has_place(&self, now: Instant) -> bool {
        self.probes.len() < self.most_probes() || self.hung(now).is_some()
    }

    pub(super) fn take_place(&mut self, now: Instant) -> Option<u32> {
        if self.probes.len() >= self.most_probes() {
            let hung = self.hung(now)?;
            self.probes.swap_remove(hung);
        }
        // Numbers start at 1, and wrap around before they could look like another kind of ticket.
        self.last_probe = self.last_probe % MOST_PROBES + 1;
        self.probes.push((self.last_probe, now));
        Some(self.last_probe)
    }

    pub(super) fn has_probe(&self, number: u32) -> bool {
        self.probes.iter().any(|(probe, _)| *probe == number)
    }

    pub(super) fn give_place_back(&mut self, number: u32) -> bool {
        let place = self.probes.iter().position(|(probe, _)| *probe == number);
        place.map(|place| self.probes.swap_remove(place)).is_some()
    }
}
