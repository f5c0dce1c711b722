use std::sync::Arc;

use super::admission::Admission;
use super::changed::Changed;
use super::config::Config;
use super::shared::{Counter, Shared, Telemetry};
use crate::machinery::own::Counted;
use crate::machinery::reconfigure::{Reconfigure as _, has_handle, operated};
use crate::vocabulary::error::Error;
use crate::vocabulary::observe::CircuitState;
use crate::vocabulary::reading::snapshot;

/// The handle of a circuit breaker, for operators and for use without tower. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Admits a call, or refuses it without waiting.
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
    /// Returns [`CircuitOpen`](crate::ErrorKind::CircuitOpen) if the circuit admits no call now.
    pub fn try_acquire(&self) -> Result<Admission, Error> {
        match Shared::admit::<Counted>(&self.shared) {
            Ok(mut admission) => {
                admission.begin();
                Ok(admission)
            }
            Err(error) => Err(self.shared.refuse(error)),
        }
    }

    /// Returns the state of the circuit. An open circuit whose open time has passed stays `Open`
    /// until the next call probes.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.shared.state.state()
    }

    /// Returns a number that grows by one with every change of state, and wraps around. Equal
    /// numbers mean that the state did not change in between.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.state.changes()
    }

    /// Waits for the next change of state.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use buttress::{CircuitState, circuit_breaker::CircuitBreakerLayer};
    /// let circuit = CircuitBreakerLayer::default().handle();
    /// let changed = circuit.changed();
    /// circuit.force_open();
    /// assert_eq!(changed.await, CircuitState::ForcedOpen);
    /// # }
    /// ```
    pub fn changed(&self) -> Changed {
        Changed::new(self.shared.clone())
    }

    /// Checks whether a call would be admitted now. It takes and counts nothing.
    ///
    /// # Errors
    /// Returns the refusal: [`CircuitOpen`](crate::ErrorKind::CircuitOpen).
    pub fn check(&self) -> Result<(), Error> {
        match self.shared.peek() {
            Some(retry_after) => Err(self.shared.error(retry_after)),
            None => Ok(()),
        }
    }

    /// Refuses every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.force(CircuitState::ForcedOpen);
    }

    /// Admits every call and counts nothing until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.force(CircuitState::Disabled);
    }

    /// Admits and counts every call until [`reset`](Self::reset).
    pub fn metrics_only(&self) {
        self.force(CircuitState::MetricsOnly);
    }

    /// Closes the circuit and empties its window. The counters stay. On a closed circuit it only
    /// empties the window, which is not a change of state.
    pub fn reset(&self) {
        self.force(CircuitState::Closed);
    }

    fn force(&self, to: CircuitState) {
        let shared = &self.shared;
        shared.report_transition(shared.state.force(to, shared.now()));
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let tally = shared.state.tally(shared.now());
        let Telemetry { counters, common, .. } = &*shared.telemetry;
        let counted = |which| common.count_calls.then(|| counters.sum(which));
        let judged = shared.state.is_by_rate() && tally.total > 0;
        let share = |part: u64| judged.then(|| part as f64 / tally.total as f64);
        Stats {
            state: self.state(),
            window_calls: tally.total,
            window_failures: tally.failed,
            window_slow: tally.slow,
            failure_rate: share(tally.failed),
            slow_call_rate: share(tally.slow),
            refused: counters.sum(Counter::Refused),
            failures: counters.sum(Counter::Failed),
            opened: counters.sum(Counter::Opened),
            transitions: counters.sum(Counter::Transitions),
            admitted: counted(Counter::Admitted),
            successes: counted(Counter::Succeeded),
        }
    }
}

has_handle!();

operated! {
    /// Replaces the rules with the rules of `config`. State, window, probes, name, clock and
    /// observer stay.
    ///
    /// # Errors
    /// Returns the errors of [`CircuitBreakerLayer::new`](super::CircuitBreakerLayer::new), and an error for a change
    /// of the window's kind or size. Nothing changes then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a circuit breaker.
    pub struct Stats: Copy {
        /// The state of the circuit.
        pub state: CircuitState,
        /// Calls in the window. For a circuit that counts failures in a row, the failures since the last success. While
        /// the circuit does not count calls, e.g. because it is open, the window keeps the last counted numbers.
        pub window_calls: u64,
        /// Failures among [`window_calls`](Self::window_calls).
        pub window_failures: u64,
        /// Slow calls among [`window_calls`](Self::window_calls).
        pub window_slow: u64,
        /// The share of failures in the window, from 0 to 1. `None` if the window is empty, or if the circuit
        /// counts failures in a row.
        pub failure_rate: Option<f64>,
        /// The share of slow calls in the window, from 0 to 1. `None` if the window is empty, or if the circuit
        /// counts failures in a row.
        pub slow_call_rate: Option<f64>,
        /// Calls that the circuit refused.
        pub refused: u64,
        /// Calls that failed, also because the inner service failed to become ready.
        pub failures: u64,
        /// How many times the circuit opened by itself.
        pub opened: u64,
        /// How many times the state changed.
        pub transitions: u64,
        /// Calls admitted. `None` unless [`count_calls`](Config::count_calls) is on.
        pub admitted: Option<u64>,
        /// Calls that succeeded. `None` unless [`count_calls`](Config::count_calls) is on.
        pub successes: Option<u64>,
    }
}
