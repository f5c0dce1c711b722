//! The state that the services of one layer share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Admission, Call, NEVER, Reserved, SLOW};
use super::config::Config;
use super::state::{Settled, State, Transition};
use crate::machinery::counters::{Counters, counters};
use crate::machinery::own::Own;
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::wakers::WakerSet;
use crate::sync::{AtomicU64, Ordering};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::error::{Error, RetryAfter};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::{CircuitState, Common};
use crate::vocabulary::pattern::Pattern;

counters! {
    /// The counters of a circuit, or of all circuits of a keyed layer.
    pub(super) enum Counter {
        Refused,
        Failed,
        Opened,
        Transitions,
        Admitted,
        Succeeded,
        TooManyKeys,
    }
}

/// The counters and reports of one circuit, or of all circuits of a keyed layer.
#[derive(Debug)]
pub struct Telemetry {
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
    /// How many circuits were created.
    circuits: AtomicU64,
}

impl Telemetry {
    /// `common` is what [`Common::of`] or [`Common::of_keys`] returns.
    pub(super) fn new(common: Common) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common, circuits: AtomicU64::new(0) })
    }

    #[inline(always)]
    fn error(&self, retry_after: RetryAfter) -> Error {
        Error::circuit_open(self.common.name, retry_after)
    }

    /// Counts and reports a refusal.
    #[inline(always)]
    fn note_refusal(&self, retry_after: RetryAfter) {
        self.counters.add(Counter::Refused);
        self.common.refused(|| self.error(retry_after));
    }
}

/// The state that the services of one circuit share.
#[derive(Debug)]
pub struct Shared {
    pub(super) state: State,
    /// Callers that wait for the inner service or for the circuit. Every change wakes them.
    pub(super) wakers: WakerSet,
    pub(super) telemetry: Arc<Telemetry>,
    /// The number of this circuit within its layer, for events.
    number: u64,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Self::made(
            &Arc::new(config.clone()),
            Telemetry::new(config.common.of(Pattern::CircuitBreaker)),
        ))
    }

    /// `config` must have been checked.
    pub(super) fn made(config: &Arc<Config>, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let common = &telemetry.common;
        let state = State::new(config, common.count_calls, common.clock.now());
        let number = telemetry.circuits.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { state, wakers: WakerSet::new(), telemetry, number })
    }

    pub(super) fn now(&self) -> Instant {
        self.telemetry.common.clock.now()
    }

    /// Returns the retry time of a call that would be refused now, or `None` if it would be
    /// admitted.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<RetryAfter> {
        self.state.peek(|| self.now())
    }

    /// Returns the refusal for the caller, after it has counted and reported it.
    #[inline(always)]
    pub(super) fn refuse(&self, retry_after: RetryAfter) -> Error {
        self.telemetry.note_refusal(retry_after);
        self.error(retry_after)
    }

    #[inline(always)]
    pub(super) fn error(&self, retry_after: RetryAfter) -> Error {
        self.telemetry.error(retry_after)
    }

    /// Admits a call through a closed circuit if nothing has to be counted. The call has then
    /// begun, too.
    #[inline]
    pub(super) fn admit_closed<O: Own>(this: &O::Of<Self>) -> Option<Admission<O>> {
        this.state.admit_closed().map(|ticket| Admission::new(this.clone(), ticket))
    }

    pub(super) fn admit<O: Own>(this: &O::Of<Self>) -> Result<Admission<O>, RetryAfter> {
        let (ticket, transition) = this.state.admit(|| this.now())?;
        let admission = Admission::new(this.clone(), ticket);
        Ok(if transition.is_some() { this.announce(admission, transition) } else { admission })
    }

    /// Reports the change of state that admitted a call. If the observer panics, the call returns
    /// its place.
    #[cold]
    fn announce<O: Own>(
        &self,
        admission: Admission<O>,
        transition: Option<Transition>,
    ) -> Admission<O> {
        let mut reserved = Reserved::new(admission);
        self.report_transition(transition);
        match reserved.take() {
            Some(admission) => admission,
            None => unreachable!("reserved above"),
        }
    }

    /// Polls the inner service for readiness. A panic counts like a panic of a call.
    #[inline(always)]
    pub(super) fn watch<O: Own, T>(this: &O::Of<Self>, poll_ready: impl FnOnce() -> T) -> T {
        struct Panicked<'a, O: Own>(&'a O::Of<Shared>);

        impl<O: Own> Drop for Panicked<'_, O> {
            #[cold]
            fn drop(&mut self) {
                // An admission that is dropped while a panic unwinds counts as panicked.
                drop(Shared::admit::<O>(self.0));
            }
        }

        let panicked = Panicked::<O>(this);
        let ready = poll_ready();
        std::mem::forget(panicked);
        ready
    }

    pub(super) fn report_transition(&self, transition: Option<Transition>) {
        if let Some(Transition { from, to }) = transition {
            self.telemetry.counters.add(Counter::Transitions);
            if to == CircuitState::Open {
                self.telemetry.counters.add(Counter::Opened);
            }
            // Wakes before the observer of the user is called, because the observer may panic.
            self.wakers.wake_all();
            self.telemetry.common.circuit_changed(from, to, self.number);
        }
    }

    /// Counts the outcome of a call, and settles the call with the circuit.
    #[inline(never)]
    pub(super) fn decide(&self, call: Call, outcome: Outcome, hint: Option<Duration>) {
        let Telemetry { counters, common, .. } = &*self.telemetry;
        match outcome {
            // A disabled circuit counts nothing.
            _ if call.ticket.is_uncounted() => {}
            Outcome::Failure => counters.add(Counter::Failed),
            Outcome::Success if common.count_calls => counters.add(Counter::Succeeded),
            _ => {}
        }
        self.settle(call, outcome, hint);
    }

    /// Returns `true` if a call that took this time is slow.
    pub(super) fn is_slow(&self, call: Call) -> bool {
        call.started == SLOW || {
            let took = self.state.nanos(self.now()).saturating_sub(call.started);
            took >= self.state.rules.slow_after()
        }
    }

    /// Settles a call with the circuit, and counts nothing.
    pub(super) fn settle(&self, call: Call, outcome: Outcome, hint: Option<Duration>) {
        let slow = call.started != NEVER && self.is_slow(call);
        let Settled { transition, freed } =
            self.state.settle(call.ticket, outcome, slow, || self.now(), hint);
        self.report_transition(transition);
        if freed {
            self.wakers.wake_all();
        }
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        let common = self.telemetry.common.clone();
        Config { common, ..(*self.state.config()).clone() }
    }

    fn accepts(old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()?;
        new.keeps_window(old)
    }

    fn apply(&self, config: &Config) {
        self.state.apply(&Arc::new(config.clone()));
    }

    fn serve(&self) {
        // More probes may be admitted now.
        self.wakers.wake_all();
    }

    fn common(&self) -> &Common {
        &self.telemetry.common
    }
}
