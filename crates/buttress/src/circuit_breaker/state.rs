//! The state machine of a circuit breaker.
//!
//! A closed circuit is decided by one load of [`State::control`] and counted in a lock-free window;
//! an open one by that load and the end of the open time. Everything else, which is rare, happens in
//! [`Machine`] behind a short lock. Each change of state begins a new *generation*; an outcome that
//! arrives with an older one changes nothing.

mod machine;
mod rules;

use std::time::{Duration, Instant};

use machine::Machine;
use rules::Rules;

use super::config::Config;
use crate::classify::Outcome;
use crate::clock;
use crate::invalid_config::InvalidConfig;
use crate::observe::CircuitState;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::window::{CountWindow, Sample, Streak, Tally, TimeWindow};

/// A call that was admitted, until it is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ticket {
    /// Through a closed circuit.
    Counted { generation: u32 },
    /// Through a half-open one.
    Probe { generation: u32, number: u64 },
    /// Through a disabled one.
    Uncounted,
}

/// A change of state, to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transition {
    pub(crate) from: CircuitState,
    pub(crate) to: CircuitState,
}

/// A call that was not admitted, and when to ask again if that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) retry_after: Option<Duration>,
}

/// What settling a call changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Settled {
    pub(crate) transition: Option<Transition>,
    /// A probe's place came free without a change of state.
    pub(crate) freed: bool,
}

#[derive(Debug)]
enum Window {
    Streak(Streak),
    Count(CountWindow),
    Time(TimeWindow),
}

#[derive(Debug)]
pub(crate) struct State {
    anchor: Instant,
    /// Generation over the number of the state.
    control: AtomicU64,
    /// When the open time ends. Written before `control` says open.
    open_until: AtomicU64,
    window: Window,
    pub(crate) rules: Rules,
    machine: Mutex<Machine>,
}

const STATES: [CircuitState; 6] = [
    CircuitState::Closed,
    CircuitState::Open,
    CircuitState::HalfOpen,
    CircuitState::ForcedOpen,
    CircuitState::Disabled,
    CircuitState::MetricsOnly,
];

fn pack(generation: u32, state: CircuitState) -> u64 {
    u64::from(generation) << 3 | state as u64
}

fn unpack(control: u64) -> (u32, CircuitState) {
    let state = STATES.get((control & 7) as usize).copied().unwrap_or(CircuitState::Closed);
    ((control >> 3) as u32, state)
}

impl State {
    pub(crate) fn new(config: &Config, anchor: Instant) -> Self {
        let window = match config.time_window {
            _ if !config.by_rate() => Window::Streak(Streak::new()),
            Some(length) => Window::Time(TimeWindow::new(length)),
            None => Window::Count(CountWindow::new(config.count_window)),
        };
        Self {
            anchor,
            control: AtomicU64::new(pack(0, CircuitState::Closed)),
            open_until: AtomicU64::new(0),
            window,
            rules: Rules::new(config),
            machine: Mutex::new(Machine::new(config)),
        }
    }

    /// Whether the window would still be the same under new rules.
    pub(crate) fn accepts(&self, config: &Config) -> Result<(), InvalidConfig> {
        let (field, fits) = match (&self.window, config.time_window) {
            (Window::Streak(_), _) => ("failure-rate", !config.by_rate()),
            (_, _) if !config.by_rate() => ("failure-rate", false),
            (Window::Count(window), None) => ("count-window", window.size() == config.count_window),
            (Window::Time(window), Some(length)) => {
                ("time-window", window.length() == TimeWindow::new(length).length())
            }
            (_, _) => ("time-window", false),
        };
        if !fits {
            let bound = "what the circuit was made with: the kind and size of its window cannot change \
                         while it runs";
            return Err(InvalidConfig::new(field, config.window_text(), bound));
        }
        Ok(())
    }

    /// Takes over new rules; state, window and probes stay.
    pub(crate) fn apply(&self, config: &Config) {
        self.rules.apply(config);
        lock(&self.machine).apply(config);
    }

    pub(crate) fn state(&self) -> CircuitState {
        unpack(self.control.load(Ordering::Acquire)).1
    }

    pub(crate) fn tally(&self, now: Instant) -> Tally {
        let generation = unpack(self.control.load(Ordering::Acquire)).0;
        match &self.window {
            Window::Streak(streak) => streak.snapshot(),
            Window::Count(window) => window.snapshot(),
            Window::Time(window) => window.tally(generation, clock::nanos_since(self.anchor, now)),
        }
    }

    /// Admits a call through a closed circuit; `None` where it takes more than a look.
    #[inline]
    pub(crate) fn admit_closed(&self) -> Option<Ticket> {
        // Acquire pairs with the Release in `enter`: what belongs to a generation is visible with it.
        let control = self.control.load(Ordering::Acquire);
        let closed = control & 7 == CircuitState::Closed as u64;
        closed.then_some(Ticket::Counted { generation: (control >> 3) as u32 })
    }

    /// Whether a success of this call would leave everything as it is, so that it need not be settled.
    #[inline]
    pub(crate) fn success_changes_nothing(&self, ticket: Ticket) -> bool {
        let Ticket::Counted { generation } = ticket else { return false };
        match &self.window {
            Window::Streak(streak) => streak.is_clear(generation),
            Window::Count(window) => window.is_clear(generation),
            Window::Time(_) => false,
        }
    }

    /// Whether a call would be refused now. The clock is read only if the circuit is not closed.
    pub(crate) fn peek(&self, now: impl Fn() -> Instant) -> Option<Refusal> {
        match self.state() {
            CircuitState::Closed | CircuitState::Disabled | CircuitState::MetricsOnly => None,
            CircuitState::Open => self.still_open(now()),
            CircuitState::ForcedOpen => Some(Refusal { retry_after: None }),
            CircuitState::HalfOpen => {
                let full = !lock(&self.machine).has_place(now());
                full.then_some(Refusal { retry_after: None })
            }
        }
    }

    /// Admits a call or refuses it. The clock is read only if the circuit is not closed.
    pub(crate) fn admit(
        &self,
        now: impl Fn() -> Instant,
    ) -> Result<(Ticket, Option<Transition>), Refusal> {
        // Acquire pairs with the Release in `enter`: what belongs to a generation is visible with it.
        let (generation, state) = unpack(self.control.load(Ordering::Acquire));
        match state {
            CircuitState::Closed | CircuitState::MetricsOnly => {
                Ok((Ticket::Counted { generation }, None))
            }
            CircuitState::Disabled => Ok((Ticket::Uncounted, None)),
            CircuitState::ForcedOpen => Err(Refusal { retry_after: None }),
            CircuitState::Open => match self.still_open(now()) {
                Some(refusal) => Err(refusal),
                None => self.admit_probe(now),
            },
            CircuitState::HalfOpen => self.admit_probe(now),
        }
    }

    /// The open time runs from the opening up to, and not including, its end.
    fn still_open(&self, now: Instant) -> Option<Refusal> {
        let now = clock::nanos_since(self.anchor, now);
        let left = self.open_until.load(Ordering::Relaxed).saturating_sub(now);
        (left > 0).then(|| Refusal { retry_after: Some(Duration::from_nanos(left)) })
    }

    fn admit_probe(
        &self,
        now: impl Fn() -> Instant,
    ) -> Result<(Ticket, Option<Transition>), Refusal> {
        let mut machine = lock(&self.machine);
        let (mut generation, state) = unpack(self.control.load(Ordering::Acquire));
        let now_is = now();
        let transition = match state {
            // Open => HalfOpen: the open time has passed.
            CircuitState::Open => match self.still_open(now_is) {
                Some(refusal) => return Err(refusal),
                None => {
                    let transition = self.enter(&mut machine, CircuitState::HalfOpen);
                    generation = generation.wrapping_add(1);
                    transition
                }
            },
            CircuitState::HalfOpen => None,
            // Another thread was faster; its state decides.
            _ => {
                drop(machine);
                return self.admit(now);
            }
        };
        match machine.take_place(now_is) {
            Some(number) => Ok((Ticket::Probe { generation, number }, transition)),
            None => Err(Refusal { retry_after: None }),
        }
    }

    /// Whether the circuit would still let this call begin: nothing changed since it was admitted, and
    /// no other probe took its place.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        match ticket {
            Ticket::Uncounted => self.state() == CircuitState::Disabled,
            Ticket::Counted { generation } => self.generation() == generation,
            Ticket::Probe { generation, number } => {
                let machine = lock(&self.machine);
                self.generation() == generation
                    && machine.probes.iter().any(|(probe, _)| *probe == number)
            }
        }
    }

    /// How often the state changed, or was set again, wrapping around.
    pub(crate) fn generation(&self) -> u32 {
        unpack(self.control.load(Ordering::Acquire)).0
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
        match ticket {
            Ticket::Uncounted => Settled::default(),
            Ticket::Counted { generation } => {
                let transition = self.settle_counted(generation, outcome, slow, now, hint);
                Settled { transition, freed: false }
            }
            Ticket::Probe { generation, number } => {
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
        let (current, state) = unpack(self.control.load(Ordering::Acquire));
        if current != generation {
            return None;
        }
        if !self.record(generation, sample, &now) || state != CircuitState::Closed {
            return None;
        }
        // Closed => Open: the failures in a row, or the share of failures or of slow calls, reached
        // the limit.
        let mut machine = lock(&self.machine);
        if self.control.load(Ordering::Acquire) != pack(generation, CircuitState::Closed) {
            return None;
        }
        self.open(&mut machine, now(), hint)
    }

    /// Counts a call in the window; whether that is reason to open.
    fn record(&self, generation: u32, sample: Sample, now: impl Fn() -> Instant) -> bool {
        match &self.window {
            Window::Streak(streak) => {
                let Some(tally) = streak.record(generation, sample.failed) else { return false };
                sample.failed && self.rules.streak_reached(tally)
            }
            Window::Count(window) => {
                let Some(tally) = window.record(generation, sample) else { return false };
                self.rules.shares_reached(sample, tally)
            }
            Window::Time(window) => {
                let now = clock::nanos_since(self.anchor, now());
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
        number: u64,
        outcome: Outcome,
        slow: bool,
        now: impl Fn() -> Instant,
        hint: Option<Duration>,
    ) -> Settled {
        let mut machine = lock(&self.machine);
        // The circuit moved on, or the probe was replaced when its lease ended.
        if self.control.load(Ordering::Acquire) != pack(generation, CircuitState::HalfOpen)
            || !machine.give_place_back(number)
        {
            return Settled::default();
        }
        let transition = match outcome {
            Outcome::Ignored => None,
            // HalfOpen => HalfOpen or Closed: enough probes succeeded, none failed.
            Outcome::Success if !slow => {
                machine.successes += 1;
                let enough = machine.successes >= machine.successes_to_close;
                enough.then(|| self.enter(&mut machine, CircuitState::Closed)).flatten()
            }
            // HalfOpen => Open: a probe failed, or was as slow as what opened the circuit.
            Outcome::Success | Outcome::Failure => {
                machine.reopened = machine.reopened.saturating_add(1);
                self.open(&mut machine, now(), hint)
            }
        };
        Settled { transition, freed: transition.is_none() }
    }

    fn open(
        &self,
        machine: &mut Machine,
        now: Instant,
        hint: Option<Duration>,
    ) -> Option<Transition> {
        // Added up as nanoseconds, where a `now` before the anchor is already the anchor.
        let until = clock::nanos_since(self.anchor, now)
            .saturating_add(clock::to_nanos(machine.open_time(hint)));
        self.open_until.store(until, Ordering::Relaxed);
        self.enter(machine, CircuitState::Open)
    }

    /// Any => ForcedOpen, Disabled, MetricsOnly or Closed: by an operator.
    pub(crate) fn force(&self, state: CircuitState) -> Option<Transition> {
        let mut machine = lock(&self.machine);
        self.enter(&mut machine, state)
    }

    /// Begins a new generation in `to`. `None` if the circuit was there already.
    fn enter(&self, machine: &mut Machine, to: CircuitState) -> Option<Transition> {
        let (generation, from) = unpack(self.control.load(Ordering::Relaxed));
        let generation = generation.wrapping_add(1);
        machine.probes.clear();
        machine.successes = 0;
        if matches!(to, CircuitState::Closed | CircuitState::MetricsOnly) {
            machine.reopened = 0;
            // Before anybody can be admitted under the new generation.
            match &self.window {
                Window::Streak(streak) => streak.reset(generation),
                Window::Count(window) => window.reset(generation),
                Window::Time(window) => window.reset(generation),
            }
        }
        self.control.store(pack(generation, to), Ordering::Release);
        (from != to).then_some(Transition { from, to })
    }

    /// Whether nothing is lost by forgetting this circuit, of which no call is running: it is closed, or
    /// it would have probed long ago and nobody came.
    pub(crate) fn is_at_rest(&self, now: impl Fn() -> Instant) -> bool {
        match self.state() {
            CircuitState::Closed | CircuitState::HalfOpen => true,
            CircuitState::Open => {
                let margin = clock::to_nanos(lock(&self.machine).open_for);
                let until = self.open_until.load(Ordering::Relaxed).saturating_add(margin);
                clock::nanos_since(self.anchor, now()) >= until
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
                Some(clock::after(first, machine.probe_lease))
            }
            _ => None,
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "state/tests.rs"]
#[expect(clippy::unwrap_used, reason = "test helpers")]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "state/loom_tests.rs"]
mod loom_tests;
