//! What the end of a call does to the circuit: it is counted in the window, which may open the circuit,
//! or it decides about a probe.

use std::time::{Duration, Instant};

use super::ticket::{COUNTED, NOTED, UNCOUNTED};
use super::{State, Ticket, Transition, Window};
use crate::machinery::window::{Sample, Streak};
use crate::sync::{Ordering, lock};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::observe::CircuitState;

/// What settling a call changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Settled {
    pub(crate) transition: Option<Transition>,
    /// A probe's place came free without a change of state.
    pub(crate) freed: bool,
}

impl State {
    /// Returns `true` if a success of this call would leave everything as it is, so that there is
    /// nothing to settle.
    #[inline(always)]
    pub(crate) fn success_changes_nothing(&self, ticket: Ticket) -> bool {
        (self.sums.load(Ordering::Relaxed) ^ ticket.word()) & self.clear == 0
    }

    /// The same of a call of which more is noted, and noted already.
    #[inline]
    pub(crate) fn noted_success_changes_nothing(&self, ticket: Ticket) -> bool {
        let plain = Ticket::new(ticket.generation(), COUNTED);
        ticket.how() == NOTED && self.success_changes_nothing(plain)
    }

    /// Counts a success of which nothing else is noted. A success opens no circuit, so the window is all that it
    /// can change. `false` if it takes more, and nothing is counted.
    #[inline]
    pub(crate) fn count_good(&self, ticket: Ticket, now: impl FnOnce() -> Instant) -> bool {
        const GOOD: Sample = Sample { failed: false, slow: false };
        let generation = ticket.generation();
        if ticket.how() != COUNTED {
            return false;
        }
        match &self.window {
            Window::Time(window) => window.count_good(generation, self.nanos(now())),
            // The window knows only the low bits of a generation.
            _ if self.generation() != generation => true,
            Window::Count(window) => {
                window.record(&self.sums, generation, GOOD);
                true
            }
            Window::Streak => {
                Streak::record(&self.sums, generation, false);
                true
            }
        }
    }

    /// Counts how a call ended. `hint` is for how long the failure asked to be left alone.
    pub(crate) fn settle(
        &self,
        ticket: Ticket,
        outcome: Outcome,
        slow: bool,
        now: impl Fn() -> Instant,
        hint: Option<Duration>,
    ) -> Settled {
        let generation = ticket.generation();
        match ticket.how() {
            UNCOUNTED => Settled::default(),
            COUNTED | NOTED => {
                let transition = self.settle_counted(generation, outcome, slow, now, hint);
                Settled { transition, freed: false }
            }
            probe => {
                let number = probe.wrapping_sub(UNCOUNTED);
                self.settle_probe(generation, number, outcome, slow, now, hint)
            }
        }
    }

    fn settle_counted(
        &self,
        generation: u32,
        outcome: Outcome,
        slow: bool,
        now: impl Fn() -> Instant,
        hint: Option<Duration>,
    ) -> Option<Transition> {
        let sample = match outcome {
            Outcome::Ignored => return None,
            Outcome::Success => Sample { failed: false, slow },
            Outcome::Failure => Sample { failed: true, slow },
        };
        let (current, state) = self.current();
        if current != generation {
            return None;
        }
        if !self.record(generation, sample, &now) || state != CircuitState::Closed {
            return None;
        }
        // Closed => Open: the failures in a row, or the share of failures or of slow calls, reached
        // the limit.
        let mut machine = lock(&self.machine);
        if self.current() != (generation, CircuitState::Closed) {
            return None;
        }
        self.open(&mut machine, now(), hint)
    }

    /// Counts a call in the window; whether that is reason to open.
    fn record(&self, generation: u32, sample: Sample, now: impl Fn() -> Instant) -> bool {
        match &self.window {
            Window::Streak => {
                let Some(tally) = Streak::record(&self.sums, generation, sample.failed) else {
                    return false;
                };
                sample.failed && self.rules.streak_reached(tally)
            }
            Window::Count(window) => {
                let Some(tally) = window.record(&self.sums, generation, sample) else {
                    return false;
                };
                self.rules.shares_reached(sample, tally)
            }
            Window::Time(window) => {
                let now = self.nanos(now());
                window.record(generation, sample, now);
                // The sum over the slices is for those calls that could open the circuit.
                !sample.is_good()
                    && self.rules.shares_reached(sample, window.tally(generation, now))
            }
        }
    }

    fn settle_probe(
        &self,
        generation: u32,
        number: u32,
        outcome: Outcome,
        slow: bool,
        now: impl Fn() -> Instant,
        hint: Option<Duration>,
    ) -> Settled {
        let mut machine = lock(&self.machine);
        // The circuit moved on, or the probe was replaced when its lease ended.
        if self.current() != (generation, CircuitState::HalfOpen)
            || !machine.give_place_back(number)
        {
            return Settled::default();
        }
        let transition = match outcome {
            Outcome::Ignored => None,
            // HalfOpen => HalfOpen or Closed: enough probes succeeded, none failed.
            Outcome::Success if !slow => {
                machine.successes += 1;
                let enough = machine.successes >= machine.rules.successes_to_close;
                enough.then(|| self.enter(&mut machine, CircuitState::Closed, now())).flatten()
            }
            // HalfOpen => Open: a probe failed, or was as slow as what opened the circuit.
            Outcome::Success | Outcome::Failure => {
                machine.reopened = machine.reopened.saturating_add(1);
                self.open(&mut machine, now(), hint)
            }
        };
        Settled { transition, freed: transition.is_none() }
    }
}
