use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Refusal, Settled, State, Ticket, Transition};
use crate::classify::Outcome;
use crate::counters::Counters;
use crate::error::{Error, InvalidConfig};
use crate::observe::{CircuitState, Common};
use crate::wakers::WakerSet;

const REFUSED: usize = 0;
const FAILED: usize = 1;
const OPENED: usize = 2;
const TRANSITIONS: usize = 3;
const ADMITTED: usize = 4;
const SUCCEEDED: usize = 5;

/// What is counted and told, by one circuit or by all circuits of a keyed layer.
#[derive(Debug)]
pub(super) struct Telemetry {
    counters: Counters<6>,
    dropped_calls: Outcome,
    panicked_calls: Outcome,
    pub(super) common: Common,
}

impl Telemetry {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            counters: Counters::new(),
            dropped_calls: config.dropped_calls,
            panicked_calls: config.panicked_calls,
            common: config.common.clone(),
        })
    }

    /// Counts and tells a refusal that is being handed out.
    pub(super) fn refuse(&self, error: Error) -> Error {
        self.counters.add(REFUSED);
        self.common.refused(&error);
        error
    }

    pub(super) fn refused(&self) -> u64 {
        self.counters.sum(REFUSED)
    }

    pub(super) fn opened(&self) -> u64 {
        self.counters.sum(OPENED)
    }
}

/// What every service of one circuit shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: State,
    /// Those parked in the inner service, or waiting for the circuit: woken by every change.
    pub(super) wakers: WakerSet,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Self::with_telemetry(config, Telemetry::new(config)))
    }

    /// `config` must have been checked.
    pub(super) fn with_telemetry(config: &Config, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let state = State::new(config, telemetry.common.clock.now());
        Arc::new(Self { state, wakers: WakerSet::new(), telemetry })
    }

    fn now(&self) -> Instant {
        self.telemetry.common.clock.now()
    }

    /// The refusal a call would meet now.
    pub(super) fn peek(&self) -> Option<Error> {
        self.state.peek(|| self.now()).map(|refusal| self.error(refusal))
    }

    fn error(&self, refusal: Refusal) -> Error {
        Error::circuit_open(self.telemetry.common.name, refusal.retry_after)
    }

    pub(super) fn refuse(&self, error: Error) -> Error {
        self.telemetry.refuse(error)
    }

    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, Error> {
        match self.state.admit(|| self.now()) {
            Ok((ticket, transition)) => {
                self.tell(transition);
                Ok(Admission { shared: self.clone(), ticket: Some(ticket), started: None })
            }
            Err(refusal) => Err(self.error(refusal)),
        }
    }

    fn tell(&self, transition: Option<Transition>) {
        if let Some(Transition { from, to }) = transition {
            self.telemetry.counters.add(TRANSITIONS);
            if to == CircuitState::Open {
                self.telemetry.counters.add(OPENED);
            }
            self.telemetry.common.circuit_changed(from, to);
            self.wakers.wake_all();
        }
    }

    fn settled(&self, settled: Settled) {
        self.tell(settled.transition);
        if settled.freed {
            self.wakers.wake_all();
        }
    }
}

/// A call that a circuit breaker let through, to be settled once. Dropping it unsettled counts as the
/// configuration says: as [`dropped_calls`](Config::dropped_calls), or as
/// [`panicked_calls`](Config::panicked_calls) while a panic unwinds.
#[must_use = "dropping an admission settles it as abandoned"]
pub struct Admission {
    shared: Arc<Shared>,
    /// `None` once settled.
    ticket: Option<Ticket>,
    /// Read only if slow calls count.
    started: Option<Instant>,
}

impl Admission {
    /// The call begins now.
    pub(super) fn begin(mut self) -> Self {
        let shared = &self.shared;
        if shared.telemetry.common.count_calls && self.ticket != Some(Ticket::Uncounted) {
            shared.telemetry.counters.add(ADMITTED);
        }
        self.started = shared.state.slow_after().map(|_| shared.now());
        self
    }

    /// Whether the circuit is still in the state that admitted this call.
    pub(super) fn is_current(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.shared.state.is_current(ticket))
    }

    /// The service did its work.
    pub fn success(self) {
        self.settle(Outcome::Success, || None);
    }

    /// The service failed.
    pub fn failure(self) {
        self.settle(Outcome::Failure, || None);
    }

    /// The call ended with `outcome`; `hint` is asked, when the circuit opens, for how long the failure
    /// wants to be left alone.
    pub fn settle(mut self, outcome: Outcome, hint: impl FnOnce() -> Option<Duration>) {
        self.end(outcome, hint);
    }

    fn end(&mut self, outcome: Outcome, hint: impl FnOnce() -> Option<Duration>) {
        let Some(ticket) = self.ticket.take() else { return };
        let shared = &self.shared;
        let Telemetry { counters, common, .. } = &*shared.telemetry;
        match outcome {
            // A disabled circuit counts nothing at all.
            _ if ticket == Ticket::Uncounted => {}
            Outcome::Failure => counters.add(FAILED),
            Outcome::Success if common.count_calls => counters.add(SUCCEEDED),
            _ => {}
        }
        let slow = self.started.is_some_and(|started| {
            let took = shared.now().saturating_duration_since(started);
            shared.state.slow_after().is_some_and(|limit| took >= limit)
        });
        shared.settled(shared.state.settle(ticket, outcome, slow, || shared.now(), hint));
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let panicking = std::thread::panicking();
            let Telemetry { panicked_calls, dropped_calls, .. } = &*self.shared.telemetry;
            let outcome = if panicking { *panicked_calls } else { *dropped_calls };
            self.end(outcome, || None);
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// The operator's view of a circuit breaker, and its use without tower. Cheap to clone; all clones, and
/// every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Asks to make a call.
    ///
    /// ```
    /// use buttress::{CircuitState, circuit_breaker::{CircuitBreakerLayer, Config}};
    /// let breaker = CircuitBreakerLayer::new(Config::new().consecutive_failures(1))?.handle();
    /// breaker.try_acquire()?.failure();
    /// assert_eq!(breaker.state(), CircuitState::Open);
    /// assert!(breaker.try_acquire().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`CircuitOpen`](crate::ErrorKind::CircuitOpen) if the circuit takes no calls.
    pub fn try_acquire(&self) -> Result<Admission, Error> {
        match self.shared.admit() {
            Ok(admission) => Ok(admission.begin()),
            Err(error) => Err(self.shared.refuse(error)),
        }
    }

    /// The state of the circuit. An open circuit whose time has passed is still `Open` until the next
    /// call probes.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.shared.state.state()
    }

    /// A number that grows by one with every change of state, wrapping around: equal numbers mean that
    /// nothing changed in between.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.state.generation()
    }

    /// Whether a call would be refused now, and how. Takes nothing.
    #[must_use]
    pub fn check(&self) -> Option<Error> {
        self.shared.peek()
    }

    /// Refuses every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.force(CircuitState::ForcedOpen);
    }

    /// Lets every call pass and counts nothing until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.force(CircuitState::Disabled);
    }

    /// Lets every call pass, and counts, until [`reset`](Self::reset).
    pub fn metrics_only(&self) {
        self.force(CircuitState::MetricsOnly);
    }

    /// Closes the circuit and starts with an empty window. Counters stay.
    pub fn reset(&self) {
        self.force(CircuitState::Closed);
    }

    fn force(&self, to: CircuitState) {
        self.shared.tell(self.shared.state.force(to));
    }

    /// Takes over the rules of `config`; state, window and probes stay. Name, clock, observer and what
    /// abandoned calls count as stay as they were too.
    ///
    /// # Errors
    /// What [`CircuitBreakerLayer::new`](super::CircuitBreakerLayer::new) would refuse, and a change of
    /// the window's kind or size, is refused and changes nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        self.accepts(config)?;
        self.shared.state.apply(config);
        // More probes may fit now.
        self.shared.wakers.wake_all();
        self.shared.telemetry.common.reconfigured();
        Ok(())
    }

    /// Whether [`reconfigure`](Self::reconfigure) would take `config`. Changes nothing.
    ///
    /// # Errors
    /// What it would say.
    pub fn accepts(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        self.shared.state.accepts(config)
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let tally = shared.state.tally(shared.now());
        let Telemetry { counters, common, .. } = &*shared.telemetry;
        let counted = |which| common.count_calls.then(|| counters.sum(which));
        Stats {
            state: self.state(),
            window_calls: tally.total,
            window_failures: tally.failed,
            window_slow: tally.slow,
            refused: counters.sum(REFUSED),
            failures: counters.sum(FAILED),
            opened: counters.sum(OPENED),
            transitions: counters.sum(TRANSITIONS),
            admitted: counted(ADMITTED),
            successes: counted(SUCCEEDED),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.telemetry.common.name)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A snapshot of a circuit breaker.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// The state of the circuit.
    pub state: CircuitState,
    /// Calls in the window; with consecutive failures, the failures in a row.
    pub window_calls: u64,
    /// Of these, the failures.
    pub window_failures: u64,
    /// Of these, the slow ones.
    pub window_slow: u64,
    /// Calls refused.
    pub refused: u64,
    /// Admitted calls that failed.
    pub failures: u64,
    /// How often the circuit opened by itself.
    pub opened: u64,
    /// How often the state changed.
    pub transitions: u64,
    /// Calls admitted; `None` unless [`count_calls`](Config::count_calls) is on.
    pub admitted: Option<u64>,
    /// Calls that succeeded; `None` unless [`count_calls`](Config::count_calls) is on.
    pub successes: Option<u64>,
}
