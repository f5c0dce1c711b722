//! The transitions of a circuit, and the commands of an operator.

use std::time::{Duration, Instant};

use super::probes::Machine;
use super::ticket::{NOTED, pack, unpack};
use super::{State, Transition, Window, counts};
use crate::machinery::window::Streak;
use crate::sync::{Ordering, lock};
use crate::vocabulary::clock;
use crate::vocabulary::observe::CircuitState;

impl State {
    /// Returns the current generation. It grows with every change of state, and when the window of
    /// a circuit that counts is emptied.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        // Acquire, as in `current`.
        (self.control.load(Ordering::Acquire) >> 32) as u32
    }

    /// Returns how many times the state changed, wrapping around.
    pub(crate) fn changes(&self) -> u32 {
        // Acquire pairs with the Release in `enter`: a thread that sees the number also sees its
        // state.
        self.changes.load(Ordering::Acquire)
    }

    /// Any => ForcedOpen, Disabled, MetricsOnly or Closed, at an operator's command.
    pub(crate) fn force(&self, state: CircuitState, now: Instant) -> Option<Transition> {
        let mut machine = lock(&self.machine);
        self.enter(&mut machine, state, now)
    }

    /// Opens the circuit for the time that the rules and the hint of the failure give.
    pub(super) fn open(
        &self,
        machine: &mut Machine,
        now: Instant,
        hint: Option<Duration>,
    ) -> Option<Transition> {
        machine.opened_for = clock::to_nanos(machine.open_time(hint));
        // The sum is in nanoseconds, where a `now` before the anchor already equals the anchor.
        let until = self.nanos(now).saturating_add(machine.opened_for);
        // The rest must stay below the value that means "unknown".
        let until = until.min(u64::MAX - 1);
        self.open_until.store(until, Ordering::Relaxed);
        self.enter(machine, CircuitState::Open, now)
    }

    /// Begins a new generation in the state `to`. Returns `None` if the circuit was in `to`
    /// already.
    pub(super) fn enter(
        &self,
        machine: &mut Machine,
        to: CircuitState,
        now: Instant,
    ) -> Option<Transition> {
        let control = self.control.load(Ordering::Relaxed);
        let (old, from) = unpack(control);
        let generation = old.wrapping_add(1);
        machine.probes.clear();
        machine.successes = 0;
        if counts(to) {
            machine.reopened = 0;
            // Runs before a call can be admitted under the new generation.
            match &self.window {
                Window::Streak => Streak::reset(&self.sums, generation),
                Window::Count(window) => window.reset(&self.sums, generation),
                Window::Time(window) => window.reset(generation),
            }
        } else if let (true, Window::Time(window)) = (counts(from), &self.window) {
            // The other windows keep their numbers until they count again. A window of time would
            // lose them.
            machine.counted = window.tally(old, self.nanos(now));
        }
        self.control.store(pack(generation, control as u32 & NOTED, to), Ordering::Release);
        if from == to {
            return None;
        }
        self.changes.store(self.changes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        Some(Transition { from, to })
    }

    /// Returns `true` if forgetting this circuit loses nothing. No call of it may be running. A
    /// closed circuit is at rest. An open or half-open circuit is at rest once twice its open time
    /// has passed.
    pub(crate) fn is_at_rest(&self, now: impl Fn() -> Instant) -> bool {
        match self.state() {
            CircuitState::Closed => true,
            CircuitState::Open | CircuitState::HalfOpen => {
                let opened_for = lock(&self.machine).opened_for;
                let until = self.open_until.load(Ordering::Relaxed).saturating_add(opened_for);
                self.nanos(now()) >= until
            }
            // An operator's command stays.
            CircuitState::ForcedOpen | CircuitState::Disabled | CircuitState::MetricsOnly => false,
        }
    }

    /// Returns when a refused call can be admitted without another event: at the end of the open
    /// time, or of the first lease of a probe.
    pub(crate) fn admits_at(&self) -> Option<Instant> {
        match self.state() {
            CircuitState::Open => {
                let until = Duration::from_nanos(self.open_until.load(Ordering::Relaxed));
                Some(clock::after(self.anchor, until))
            }
            CircuitState::HalfOpen => {
                let machine = lock(&self.machine);
                let first = machine.probes.iter().map(|(_, since)| *since).min()?;
                Some(clock::after(first, machine.rules.probe_lease))
            }
            _ => None,
        }
    }
}
