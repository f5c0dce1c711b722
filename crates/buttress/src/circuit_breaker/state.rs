//! The state machine of a circuit breaker.
//!
//! A closed circuit decides with one load of [`State::control`] and counts in a lock-free window.
//! An open circuit decides with that load and the end of the open time. Everything else is rare and
//! happens in [`Machine`] behind a short lock. Each change of state begins a new *generation*. An
//! outcome with an older generation changes nothing.
//!
//! This file admits calls, [`probes`] the probes of a half-open circuit. [`settle`] processes the end of a call, and
//! [`transitions`] changes the state.

mod probes;
mod rules;
mod settle;
mod ticket;
mod transitions;

use std::sync::Arc;
use std::time::Instant;

use probes::Machine;
use rules::Rules;
pub(crate) use settle::Settled;
pub(crate) use ticket::Ticket;
use ticket::{COUNTED, NOTED, UNCOUNTED, pack, unpack};

use super::config::Config;
use crate::machinery::window::{CountWindow, Streak, Tally, TimeWindow};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};
use crate::vocabulary::clock;
use crate::vocabulary::error::RetryAfter;
use crate::vocabulary::observe::CircuitState;

/// A change of state, for the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transition {
    pub from: CircuitState,
    pub to: CircuitState,
}

#[derive(Debug)]
enum Window {
    Streak,
    Count(CountWindow),
    Time(TimeWindow),
}

#[derive(Debug)]
pub(crate) struct State {
    anchor: Instant,
    /// `true` if calls are counted. It is constant for the life of the circuit.
    count_calls: bool,
    /// See [`pack`]. Written while the machine is locked.
    control: AtomicU64,
    /// How many times the state changed. Written after `control`, while the machine is locked.
    changes: AtomicU32,
    /// The word of a count window or a streak. The windows describe its layout.
    sums: AtomicU64,
    /// The bits of `sums` that equal those in the ticket of a call whose success would change
    /// nothing.
    clear: u64,
    /// When the open time ends. Written before `control` changes to open.
    open_until: AtomicU64,
    window: Window,
    pub rules: Rules,
    machine: Mutex<Machine>,
}

/// Returns `true` if the outcomes of calls go into the window.
fn counts(state: CircuitState) -> bool {
    matches!(state, CircuitState::Closed | CircuitState::MetricsOnly)
}

fn noted(count_calls: bool, config: &Config) -> u32 {
    if count_calls || config.slow_call_duration.is_some() { NOTED } else { 0 }
}

impl State {
    /// Creates a closed circuit. `count_calls` is the setting of its layer; the setting in `config`
    /// is ignored.
    pub(crate) fn new(config: &Arc<Config>, count_calls: bool, anchor: Instant) -> Self {
        let (window, sums, clear) = match config.time_window {
            _ if !config.by_rate() => (Window::Streak, 0, Streak::CLEAR),
            // Every call counts: the value equals no ticket.
            Some(length) => (Window::Time(TimeWindow::new(length)), u64::MAX, u64::MAX),
            None => {
                let window = CountWindow::new(config.count_window);
                (Window::Count(window), CountWindow::empty(), CountWindow::CLEAR)
            }
        };
        let noted = noted(count_calls, config);
        Self {
            anchor,
            count_calls,
            control: AtomicU64::new(pack(0, noted, CircuitState::Closed)),
            changes: AtomicU32::new(0),
            sums: AtomicU64::new(sums),
            clear,
            open_until: AtomicU64::new(0),
            window,
            rules: Rules::new(config),
            machine: Mutex::new(Machine::new(config)),
        }
    }

    /// Returns the rules in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        lock(&self.machine).rules.clone()
    }

    /// Replaces the rules. State, window and probes stay.
    pub(crate) fn apply(&self, config: &Arc<Config>) {
        self.rules.apply(config);
        let mut machine = lock(&self.machine);
        machine.rules = config.clone();
        let (generation, state) = unpack(self.control.load(Ordering::Relaxed));
        let noted = noted(self.count_calls, config);
        self.control.store(pack(generation, noted, state), Ordering::Release);
    }

    /// Returns generation and state.
    fn current(&self) -> (u32, CircuitState) {
        // Acquire pairs with the Release in `enter`: a thread that sees a generation also sees its
        // data.
        unpack(self.control.load(Ordering::Acquire))
    }

    pub(crate) fn state(&self) -> CircuitState {
        self.current().1
    }

    /// Returns the numbers in the window. While no call is counted, returns the last counted
    /// numbers.
    pub(crate) fn tally(&self, now: Instant) -> Tally {
        match &self.window {
            Window::Streak => Streak::snapshot(&self.sums),
            Window::Count(window) => window.snapshot(&self.sums),
            Window::Time(window) => match self.current() {
                (generation, state) if counts(state) => window.tally(generation, self.nanos(now)),
                _ => lock(&self.machine).counted,
            },
        }
    }

    /// Returns `true` if a rate over a window decides, instead of failures in a row.
    pub(crate) fn is_by_rate(&self) -> bool {
        !matches!(self.window, Window::Streak)
    }

    /// Admits a call through a closed circuit that notes nothing else about the call. `None` if the
    /// slow path must decide.
    #[inline(always)]
    pub(crate) fn admit_closed(&self) -> Option<Ticket> {
        // Acquire pairs with the Release in `enter`: a thread that sees a generation also sees its
        // data.
        Ticket::of_closed(self.control.load(Ordering::Acquire))
    }

    /// Returns the retry time of a call that would be refused now. Reads the clock only if the
    /// circuit is not closed.
    #[inline(always)]
    pub(crate) fn peek(&self, now: impl Fn() -> Instant) -> Option<RetryAfter> {
        // The most frequent refusal comes first.
        if self.control.load(Ordering::Acquire) & 7 == CircuitState::Open as u64 {
            return self.still_open(now());
        }
        self.peek_others(now)
    }

    #[inline(never)]
    fn peek_others(&self, now: impl Fn() -> Instant) -> Option<RetryAfter> {
        match self.state() {
            CircuitState::Closed | CircuitState::Disabled | CircuitState::MetricsOnly => None,
            CircuitState::Open => self.still_open(now()),
            CircuitState::ForcedOpen => Some(RetryAfter::UNKNOWN),
            CircuitState::HalfOpen => {
                let full = !lock(&self.machine).has_place(now());
                full.then_some(RetryAfter::UNKNOWN)
            }
        }
    }

    /// Admits a call or refuses it. Reads the clock only if the circuit is not closed.
    pub(crate) fn admit(
        &self,
        now: impl Fn() -> Instant,
    ) -> Result<(Ticket, Option<Transition>), RetryAfter> {
        // Acquire pairs with the Release in `enter`: a thread that sees a generation also sees its
        // data.
        let control = self.control.load(Ordering::Acquire);
        let (generation, state) = unpack(control);
        match state {
            CircuitState::Closed | CircuitState::MetricsOnly => {
                let how = if control as u32 & NOTED == 0 { COUNTED } else { NOTED };
                Ok((Ticket::new(generation, how), None))
            }
            CircuitState::Disabled => Ok((Ticket::new(generation, UNCOUNTED), None)),
            CircuitState::ForcedOpen => Err(RetryAfter::UNKNOWN),
            CircuitState::Open => match self.still_open(now()) {
                Some(refusal) => Err(refusal),
                None => self.admit_probe(now),
            },
            CircuitState::HalfOpen => self.admit_probe(now),
        }
    }

    /// Returns the nanoseconds from the circuit's anchor to `now`.
    #[inline]
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        clock::nanos_since(self.anchor, now)
    }

    /// Returns the rest of the open time, which excludes its last instant. `None` if the open time
    /// has passed.
    #[inline]
    fn still_open(&self, now: Instant) -> Option<RetryAfter> {
        let now = self.nanos(now);
        let left = self.open_until.load(Ordering::Relaxed).saturating_sub(now);
        (left > 0).then(|| RetryAfter::nanos(left))
    }

    fn admit_probe(
        &self,
        now: impl Fn() -> Instant,
    ) -> Result<(Ticket, Option<Transition>), RetryAfter> {
        let mut machine = lock(&self.machine);
        let (mut generation, state) = self.current();
        let now_is = now();
        let transition = match state {
            // Open => HalfOpen: the open time has passed.
            CircuitState::Open => match self.still_open(now_is) {
                Some(refusal) => return Err(refusal),
                None => {
                    let transition = self.enter(&mut machine, CircuitState::HalfOpen, now_is);
                    generation = generation.wrapping_add(1);
                    transition
                }
            },
            CircuitState::HalfOpen => None,
            // Another thread was faster. Its state decides.
            _ => {
                drop(machine);
                return self.admit(now);
            }
        };
        match machine.take_place(now_is) {
            Some(number) => Ok((Ticket::new(generation, UNCOUNTED + number), transition)),
            None => Err(RetryAfter::UNKNOWN),
        }
    }

    /// Returns `true` if the circuit would still let this call begin: the state has not changed
    /// since its admission, and no other probe took its place.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        if ticket.is_uncounted() {
            return self.state() == CircuitState::Disabled;
        }
        let probe = ticket.is_probe().then(|| lock(&self.machine));
        let in_place = |machine: &Machine| machine.has_probe(ticket.how() - UNCOUNTED);
        self.generation() == ticket.generation() && probe.is_none_or(|machine| in_place(&machine))
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "state/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "state/loom_tests.rs"]
mod loom_tests;
