//! What every service of one layer shares, and the guards of a call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Settled, State, Ticket, Transition};
use crate::classify::Outcome;
use crate::counters::Counters;
use crate::error::{Error, RetryAfter};
use crate::guard::Guard;
use crate::invalid_config::InvalidConfig;
use crate::observe::{CircuitState, Common};
use crate::wakers::WakerSet;

pub(super) const REFUSED: usize = 0;
pub(super) const FAILED: usize = 1;
pub(super) const OPENED: usize = 2;
pub(super) const TRANSITIONS: usize = 3;
pub(super) const ADMITTED: usize = 4;
pub(super) const SUCCEEDED: usize = 5;

/// What is counted and told, by one circuit or by all circuits of a keyed layer.
#[derive(Debug)]
pub(super) struct Telemetry {
    pub(super) counters: Counters<6>,
    pub(super) common: Common,
}

impl Telemetry {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common: config.common.clone() })
    }

    #[inline(always)]
    fn error(&self, retry_after: RetryAfter) -> Error {
        Error::circuit_open(self.common.name, retry_after)
    }

    /// Counts and tells a refusal that is being handed out.
    #[inline(always)]
    fn note_refusal(&self, retry_after: RetryAfter) {
        self.counters.add(REFUSED);
        self.common.refused(|| self.error(retry_after));
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
        let common = &telemetry.common;
        let state = State::new(config, common.count_calls, common.clock.now());
        Arc::new(Self { state, wakers: WakerSet::new(), telemetry })
    }

    pub(super) fn now(&self) -> Instant {
        self.telemetry.common.clock.now()
    }

    /// How a call would be refused now.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<RetryAfter> {
        self.state.peek(|| self.now())
    }

    /// The refusal that is being handed out, counted and told.
    #[inline(always)]
    pub(super) fn refuse(&self, retry_after: RetryAfter) -> Error {
        self.telemetry.note_refusal(retry_after);
        self.error(retry_after)
    }

    #[inline(always)]
    pub(super) fn error(&self, retry_after: RetryAfter) -> Error {
        self.telemetry.error(retry_after)
    }

    /// Admits a call at a look, if that is all it takes. The call has begun then, too.
    #[inline]
    pub(super) fn admit_closed(self: &Arc<Self>) -> Option<Admission> {
        self.state.admit_closed().map(|ticket| self.admission(ticket))
    }

    #[inline]
    fn admission(self: &Arc<Self>, ticket: Ticket) -> Admission {
        Admission { shared: Some(self.clone()), call: Call { ticket, started: NEVER } }
    }

    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, RetryAfter> {
        let (ticket, transition) = self.state.admit(|| self.now())?;
        let admission = self.admission(ticket);
        Ok(if transition.is_some() { self.announce(admission, transition) } else { admission })
    }

    /// Reports the change of state that admitted a call. The call keeps its place only if the observer
    /// returns.
    #[cold]
    fn announce(&self, admission: Admission, transition: Option<Transition>) -> Admission {
        let mut reserved = Reserved::new(admission);
        self.tell(transition);
        match reserved.take() {
            Some(admission) => admission,
            None => unreachable!("reserved above"),
        }
    }

    /// Polls the inner service to readiness; a panic in there is counted as that of a call.
    #[inline(always)]
    pub(super) fn watch<T>(self: &Arc<Self>, poll_ready: impl FnOnce() -> T) -> T {
        struct Panicked<'a>(&'a Arc<Shared>);

        impl Drop for Panicked<'_> {
            #[cold]
            fn drop(&mut self) {
                // Dropped while a panic unwinds, an admission counts as panicked.
                drop(self.0.admit());
            }
        }

        let panicked = Panicked(self);
        let ready = poll_ready();
        std::mem::forget(panicked);
        ready
    }

    pub(super) fn tell(&self, transition: Option<Transition>) {
        if let Some(Transition { from, to }) = transition {
            self.telemetry.counters.add(TRANSITIONS);
            if to == CircuitState::Open {
                self.telemetry.counters.add(OPENED);
            }
            // Before an observer of the user's is called, whatever it does.
            self.wakers.wake_all();
            self.telemetry.common.circuit_changed(from, to);
        }
    }

    /// Counts how a call ended, and what it means.
    #[inline(never)]
    fn decide(&self, call: Call, outcome: Outcome, hint: Option<Duration>) {
        let Telemetry { counters, common } = &*self.telemetry;
        match outcome {
            // A disabled circuit counts nothing at all.
            _ if call.ticket.is_uncounted() => {}
            Outcome::Failure => counters.add(FAILED),
            Outcome::Success if common.count_calls => counters.add(SUCCEEDED),
            _ => {}
        }
        self.settle(call, outcome, hint);
    }

    /// Settles a call with the circuit, and counts nothing.
    pub(super) fn settle(&self, call: Call, outcome: Outcome, hint: Option<Duration>) {
        let Call { ticket, started } = call;
        let slow = started != NEVER && {
            let took = self.state.nanos(self.now()).saturating_sub(started);
            took >= self.state.rules.slow_after()
        };
        let Settled { transition, freed } =
            self.state.settle(ticket, outcome, slow, || self.now(), hint);
        self.tell(transition);
        if freed {
            self.wakers.wake_all();
        }
    }
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) ticket: Ticket,
    /// When, in nanoseconds of the state's; read only if slow calls count.
    started: u64,
}

/// Stands in [`Call::started`] for "not read".
const NEVER: u64 = u64::MAX;

impl Call {
    /// Reads when the call begins, if that matters.
    pub(super) fn time(&mut self, shared: &Shared) {
        if shared.state.rules.times_calls() {
            self.started = shared.state.nanos(shared.now());
            // It may have been admitted before calls were timed, and must be judged all the same.
            self.ticket = self.ticket.noted();
        }
    }
}

/// A call that a circuit breaker let through, to be settled once. Dropping it unsettled counts as the
/// configuration says: as [`dropped_calls`](Config::dropped_calls), or as
/// [`panicked_calls`](Config::panicked_calls) while a panic unwinds.
#[must_use = "dropping an admission settles it as abandoned"]
pub struct Admission {
    /// `None` once settled.
    shared: Option<Arc<Shared>>,
    call: Call,
}

impl Admission {
    /// The call begins now.
    pub(super) fn begin(&mut self) {
        let Some(shared) = &self.shared else { return };
        let Telemetry { counters, common } = &*shared.telemetry;
        if common.count_calls && !self.call.ticket.is_uncounted() {
            counters.add(ADMITTED);
        }
        self.call.time(shared);
    }

    /// The admission without its guard: the caller settles the call.
    pub(super) fn into_call(mut self) -> Option<(Arc<Shared>, Call)> {
        self.shared.take().map(|shared| (shared, self.call))
    }

    /// What admitted the call.
    #[inline(always)]
    pub(super) fn ticket(&self) -> Ticket {
        self.call.ticket
    }

    /// Whether the circuit is still in the state that admitted this call.
    pub(super) fn is_current(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.state.is_current(self.call.ticket))
    }

    /// The service did its work.
    pub fn success(self) {
        self.settle(Outcome::Success, || None);
    }

    /// The service failed.
    pub fn failure(self) {
        self.settle(Outcome::Failure, || None);
    }

    /// The call ended with `outcome`. `hint` is asked of a failure, where the configuration
    /// [honours](Config::honour_hint) it, for how long it wants to be left alone.
    pub fn settle(mut self, outcome: Outcome, hint: impl FnOnce() -> Option<Duration>) {
        self.settle_in_place(outcome, hint);
    }

    #[inline(always)]
    pub(super) fn settle_in_place(
        &mut self,
        outcome: Outcome,
        hint: impl FnOnce() -> Option<Duration>,
    ) {
        let Some(shared) = &self.shared else { return };
        if outcome == Outcome::Success && shared.state.success_changes_nothing(self.call.ticket) {
            self.shared = None;
            return;
        }
        // Before anything is taken: should the user's code panic, the call is settled as a panic.
        let asked = outcome == Outcome::Failure && shared.state.rules.honours_hints();
        let hint = if asked { hint() } else { None };
        if let Some(shared) = self.shared.take() {
            end(shared, self.call, outcome, hint);
        }
    }
}

impl Guard for Admission {
    /// Settles the call as abandoned.
    #[inline]
    fn give_back(&mut self) {
        if let Some(shared) = self.shared.take() {
            abandon(shared, self.call);
        }
    }
}

impl Drop for Admission {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// An admission whose call has not begun. Dropping it gives its place back.
pub(super) struct Reserved(Option<Admission>);

impl Reserved {
    pub(super) const NOTHING: Self = Self(None);

    pub(super) fn new(admission: Admission) -> Self {
        Self(Some(admission))
    }

    pub(super) fn take(&mut self) -> Option<Admission> {
        self.0.take()
    }

    /// Whether an admission of the present state is reserved.
    pub(super) fn is_current(&self) -> bool {
        self.0.as_ref().is_some_and(Admission::is_current)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(admission) = self.0.take() {
            admission.settle(Outcome::Ignored, || None);
        }
    }
}

/// Settles `call`. Out of line, and given all it needs by value: the future of a call whose success
/// changes nothing then needs no memory of its own.
#[inline(never)]
fn end(shared: Arc<Shared>, call: Call, outcome: Outcome, hint: Option<Duration>) {
    if outcome == Outcome::Success {
        if shared.state.count_good(call.ticket, || shared.now()) {
            return;
        }
        if call.started == NEVER && shared.state.noted_success_changes_nothing(call.ticket) {
            return shared.telemetry.counters.add(SUCCEEDED);
        }
    }
    shared.decide(call, outcome, hint);
}

#[cold]
#[inline(never)]
fn abandon(shared: Arc<Shared>, call: Call) {
    shared.decide(call, shared.state.rules.abandoned(std::thread::panicking()), None);
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("call", &self.call).finish_non_exhaustive()
    }
}
