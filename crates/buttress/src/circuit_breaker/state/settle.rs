//! Processes the end of a call. A counted call goes into the window, which may open the circuit. A
//! probe decides about closing.

use std::time::{Duration, Instant};

use super::ticket::{ASIDE, COUNTED, NOTED, UNCOUNTED};
use super::{State, Ticket, Transition, Window};
use crate::machinery::window::{Sample, Streak};
use crate::sync::{Ordering, lock};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::observe::CircuitState;

/// The effect of settling a call.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Settled {
    pub transition: Option<Transition>,
    /// A probe returned its place without a change of state.
    pub freed: bool,
}

impl State {
    /// Returns `true` if a success of this call would change nothing, so that there is nothing to
    /// settle.
    #[inline(always)]
    pub(crate) fn success_changes_nothing(&self, ticket: Ticket) -> bool {
        (self.sums.load(Ordering::Relaxed) ^ ticket.word()) & self.clear == 0
    }

    /// Returns `true` if a success of this call would change nothing else, for a call that is
    /// counted or timed.
    #[inline]
    pub(crate) fn noted_success_changes_nothing(&self, ticket: Ticket) -> bool {
        let plain = Ticket::new(ticket.generation(), COUNTED);
        ticket.how() == NOTED && self.success_changes_nothing(plain)
    }

    /// Counts a success that has no other effect. A success opens no circuit, so it can only change
    /// the window. Returns `false`, and counts nothing, if the slow path must settle the call.
    #[inline]
    pub(crate) fn count_good(&self, ticket: Ticket, now: impl FnOnce() -> Instant) -> bool {
        const GOOD: Sample = Sample { failed: false, slow: false };
        let generation = ticket.generation();
        if ticket.how() != COUNTED {
            return false;
        }
        match &self.window {
            Window::Time(window) => window.count_good(generation, self.nanos(now())),
            // The window stores only the low bits of a generation.
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

    /// Counts the outcome of a call. `hint` is how long the failure asks callers to wait.
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
            ASIDE => self.settle_probe(generation, None, outcome, slow, now, hint),
            probe => {
                let number = Some(probe.wrapping_sub(UNCOUNTED));
                self.settle_probe(generation, number, outcome, slow, now, hint)
            }
        }
    }

    /// Frees the place of a probe for the next probe. Returns the ticket with which the probe is settled, or `None` if
    /// the call has no place.
    pub(crate) fn step_aside(&self, ticket: Ticket) -> Option<Ticket> {
        if !ticket.is_probe() {
            return None;
        }
        let mut machine = lock(&self.machine);
        let is_there = self.current() == (ticket.generation(), CircuitState::HalfOpen)
            && machine.give_place_back(ticket.how().wrapping_sub(UNCOUNTED));
        is_there.then(|| Ticket::new(ticket.generation(), ASIDE))
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

    /// Counts a call in the window. Returns `true` if the circuit should open.
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
                // Only a call that could open the circuit needs the sum over the slices.
                !sample.is_good()
                    && self.rules.shares_reached(sample, window.tally(generation, now))
            }
        }
    }

    /// Settles the probe with this number, or one that has stepped aside.
    fn settle_probe(
        &self,
        generation: u32,
        number: Option<u32>,
        outcome: Outcome,
        slow: bool,
        now: impl Fn() -> Instant,
        hint: Option<Duration>,
    ) -> Settled {
        let mut machine = lock(&self.machine);
        // The circuit has left this state, or another probe took the place when the lease ended.
        if self.current() != (generation, CircuitState::HalfOpen)
            || !number.is_none_or(|number| machine.give_place_back(number))
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
            // HalfOpen => Open: a probe failed or was slow.
            Outcome::Success | Outcome::Failure => {
                machine.reopened = machine.reopened.saturating_add(1);
                self.open(&mut machine, now(), hint)
            }
        };
        Settled { transition, freed: transition.is_none() }
    }
}
