//! How the state of a circuit changes, and what an operator decides.

use std::time::{Duration, Instant};

use super::machine::Machine;
use super::ticket::{NOTED, pack, unpack};
use super::{State, Transition, Window, counts};
use crate::machinery::window::Streak;
use crate::sync::{Ordering, lock};
use crate::vocabulary::clock;
use crate::vocabulary::observe::CircuitState;

impl State {
    /// Returns the present generation: a number that grows with every change of state, and when a
    /// window that counts is emptied.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        // Acquire, as in `current`.
        (self.control.load(Ordering::Acquire) >> 32) as u32
    }

    /// How often the state changed, wrapping around.
    pub(crate) fn changes(&self) -> u32 {
        // Acquire pairs with the Release in `enter`: the state is visible with its number.
        self.changes.load(Ordering::Acquire)
    }

    /// Any => ForcedOpen, Disabled, MetricsOnly or Closed: by an operator.
    pub(crate) fn force(&self, state: CircuitState, now: Instant) -> Option<Transition> {
        let mut machine = lock(&self.machine);
        self.enter(&mut machine, state, now)
    }

    /// Opens the circuit for as long as the rules and the failure say.
    pub(super) fn open(
        &self,
        machine: &mut Machine,
        now: Instant,
        hint: Option<Duration>,
    ) -> Option<Transition> {
        machine.opened_for = clock::to_nanos(machine.open_time(hint));
        // Added up as nanoseconds, where a `now` before the anchor is already the anchor.
        let until = self.nanos(now).saturating_add(machine.opened_for);
        // What is left of it is always a time that can be told.
        let until = until.min(u64::MAX - 1);
        self.open_until.store(until, Ordering::Relaxed);
        self.enter(machine, CircuitState::Open, now)
    }

    /// Begins a new generation in `to`. `None` if the circuit was there already.
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
            // Before anybody can be admitted under the new generation.
            match &self.window {
                Window::Streak => Streak::reset(&self.sums, generation),
                Window::Count(window) => window.reset(&self.sums, generation),
                Window::Time(window) => window.reset(generation),
            }
        } else if let (true, Window::Time(window)) = (counts(from), &self.window) {
            // The other windows keep what they hold until they count again. This one would lose it.
            machine.counted = window.tally(old, self.nanos(now));
        }
        self.control.store(pack(generation, control as u32 & NOTED, to), Ordering::Release);
        if from == to {
            return None;
        }
        self.changes.store(self.changes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        Some(Transition { from, to })
    }

    /// Returns `true` if nothing is lost by forgetting this circuit, of which no call is running:
    /// it is closed, or it would have probed as long ago as it was open, and no call decided it
    /// since.
    pub(crate) fn is_at_rest(&self, now: impl Fn() -> Instant) -> bool {
        match self.state() {
            CircuitState::Closed => true,
            CircuitState::Open | CircuitState::HalfOpen => {
                let opened_for = lock(&self.machine).opened_for;
                let until = self.open_until.load(Ordering::Relaxed).saturating_add(opened_for);
                self.nanos(now()) >= until
            }
            // What an operator decided stays.
            CircuitState::ForcedOpen | CircuitState::Disabled | CircuitState::MetricsOnly => false,
        }
    }

    /// When time alone will let a call in that was refused now: at the end of the open time, or of the
    /// first lease of a probe.
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
