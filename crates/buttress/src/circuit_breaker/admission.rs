//! The guards of a call.

use std::fmt;
use std::time::{Duration, Instant};

use super::shared::{Counter, Shared, Telemetry};
use super::state::Ticket;
use crate::machinery::guard::Guard;
use crate::machinery::own::{Counted, Own};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::until::{Open, OpenCall};

/// A call in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub ticket: Ticket,
    /// When the call began, in nanoseconds since the state's anchor. Read only if slow calls count.
    pub started: u64,
}

/// The value of [`Call::started`] before the clock was read, and of a call that was quick.
pub(super) const NEVER: u64 = u64::MAX;
/// The value of [`Call::started`] of a call that was slow.
pub(super) const SLOW: u64 = NEVER - 1;

impl Call {
    /// Records when the call begins, if slow calls count.
    pub(super) fn time(&mut self, shared: &Shared) {
        if shared.state.rules.times_calls() {
            self.started = shared.state.nanos(shared.now());
            // The call may have been admitted before calls were timed. It must be judged as a timed
            // call all the same.
            self.ticket = self.ticket.noted();
        }
    }

    /// Lets the duration of the call begin at `at`.
    fn begun_at(&mut self, shared: &Shared, at: Instant) {
        if self.started != NEVER {
            self.started = shared.state.nanos(at);
        }
    }

    /// Decides now whether the call is slow, because its response is ready.
    fn judge_time(&mut self, shared: &Shared) {
        if self.started != NEVER {
            self.started = if shared.is_slow(*self) { SLOW } else { NEVER };
        }
    }
}

/// A call that a circuit breaker admitted. The caller settles it once.
///
/// Dropping it unsettled counts as the configuration says: as
/// [`dropped_calls`](super::Config::dropped_calls), or as
/// [`panicked_calls`](super::Config::panicked_calls) while a panic unwinds.
#[must_use = "dropping an admission settles it as abandoned"]
pub struct Admission<O: Own = Counted> {
    /// `None` once settled.
    shared: Option<O::Of<Shared>>,
    call: Call,
}

impl<O: Own> Admission<O> {
    #[inline]
    pub(super) fn new(shared: O::Of<Shared>, ticket: Ticket) -> Self {
        Self { shared: Some(shared), call: Call { ticket, started: NEVER } }
    }

    /// Counts and times the call, which begins now.
    pub(super) fn begin(&mut self) {
        let Some(shared) = &self.shared else { return };
        let Telemetry { counters, common, .. } = &*shared.telemetry;
        if common.count_calls && !self.call.ticket.is_uncounted() {
            counters.add(Counter::Admitted);
        }
        self.call.time(shared);
    }

    /// Takes the admission of a call that is not over with its response. Its duration counts until
    /// now.
    #[inline(never)]
    pub(super) fn hold(&mut self) -> Option<OpenCall> {
        let shared = self.shared.take()?;
        self.call.judge_time(&shared);
        Some(OpenCall::new(Self { shared: Some(shared), call: self.call }))
    }

    /// Returns the parts of the admission without its guard. The caller settles the call.
    pub(super) fn into_call(mut self) -> Option<(O::Of<Shared>, Call)> {
        self.shared.take().map(|shared| (shared, self.call))
    }

    /// Returns the ticket of the call.
    #[inline(always)]
    pub(super) fn ticket(&self) -> Ticket {
        self.call.ticket
    }

    /// Returns `true` if the circuit is still in the state that admitted this call.
    pub(super) fn is_current(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.state.is_current(self.call.ticket))
    }

    /// Sets when the call began. Default: when the circuit admitted it.
    ///
    /// [Slow calls](super::Config::slow_calls) are timed from here. A server sets the end of the request's body, so that a
    /// client that sends slowly does not make the service look slow. Without slow calls the method does nothing.
    pub fn begun_at(&mut self, at: Instant) {
        if let Some(shared) = &self.shared {
            self.call.begun_at(shared, at);
        }
    }

    /// Lets another probe take the place of this one. The outcome of the call still counts while the circuit is half-open.
    ///
    /// A server calls it for a probe whose client is slow to send its request: such a client would otherwise hold the
    /// place, and the circuit would refuse all others. The method does nothing to a call that is not a probe.
    ///
    /// ```
    /// use buttress::CircuitState;
    /// use buttress::circuit_breaker::{CircuitBreakerLayer, Config};
    /// # use std::time::Duration;
    /// # let clock = buttress::VirtualClock::new();
    /// # let config = Config::new().clock(clock.clock());
    /// # let breaker = CircuitBreakerLayer::new(config.consecutive_failures(1))?.handle();
    /// breaker.try_acquire()?.failure();
    /// # clock.advance(Duration::from_secs(30));
    /// // After the open time:
    /// let mut slow = breaker.try_acquire()?;
    /// assert!(breaker.try_acquire().is_err(), "one probe at a time");
    /// slow.step_aside();
    /// let quick = breaker.try_acquire()?;
    /// slow.success();
    /// assert_eq!(breaker.state(), CircuitState::Closed);
    /// # quick.success();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn step_aside(&mut self) {
        let Some(shared) = &self.shared else { return };
        if let Some(aside) = shared.state.step_aside(self.call.ticket) {
            self.call.ticket = aside;
            shared.wakers.wake_all();
        }
    }

    /// Settles the call as a success: the service did its work.
    pub fn success(self) {
        self.settle(Outcome::Success, || None);
    }

    /// Settles the call as a failure of the service.
    pub fn failure(self) {
        self.settle(Outcome::Failure, || None);
    }

    /// Settles the call with `outcome`.
    ///
    /// If the call failed and the configuration [honours hints](super::Config::honour_hint), `hint`
    /// returns how long the failure asks callers to wait.
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
        // The code of the user runs before the guard is taken. If it panics, the call is settled as
        // panicked.
        let asked = outcome == Outcome::Failure && shared.state.rules.honours_hints();
        let hint = if asked { hint() } else { None };
        if let Some(shared) = self.shared.take() {
            end::<O>(shared, self.call, outcome, hint);
        }
    }
}

impl<O: Own> Open for Admission<O> {
    fn end(self: Box<Self>, outcome: Outcome) {
        self.settle(outcome, || None);
    }

    fn abandon(mut self: Box<Self>) {
        if let Some(shared) = self.shared.take() {
            shared.decide(self.call, shared.state.rules.abandoned(false), None);
        }
    }
}

impl<O: Own> Guard for Admission<O> {
    /// Settles the call as abandoned.
    #[inline]
    fn give_back(&mut self) {
        if let Some(shared) = self.shared.take() {
            abandon::<O>(shared, self.call);
        }
    }
}

impl<O: Own> Drop for Admission<O> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// An admission whose call has not begun. Dropping it returns its place.
pub(super) struct Reserved<O: Own = Counted>(Option<Admission<O>>);

impl<O: Own> Reserved<O> {
    pub(super) const NOTHING: Self = Self(None);

    pub(super) fn new(admission: Admission<O>) -> Self {
        Self(Some(admission))
    }

    pub(super) fn take(&mut self) -> Option<Admission<O>> {
        self.0.take()
    }

    /// Returns `true` if an admission of the current state is reserved.
    pub(super) fn is_current(&self) -> bool {
        self.0.as_ref().is_some_and(Admission::is_current)
    }
}

impl<O: Own> Drop for Reserved<O> {
    fn drop(&mut self) {
        if let Some(admission) = self.0.take() {
            admission.settle(Outcome::Ignored, || None);
        }
    }
}

/// Settles `call`. The function is out of line and takes its arguments by value. The future of a
/// call whose success changes nothing then needs no stack memory for it.
#[inline(never)]
fn end<O: Own>(shared: O::Of<Shared>, call: Call, outcome: Outcome, hint: Option<Duration>) {
    if outcome == Outcome::Success {
        if shared.state.count_good(call.ticket, || shared.now()) {
            return;
        }
        if call.started == NEVER && shared.state.noted_success_changes_nothing(call.ticket) {
            return shared.telemetry.counters.add(Counter::Succeeded);
        }
    }
    shared.decide(call, outcome, hint);
}

#[cold]
#[inline(never)]
fn abandon<O: Own>(shared: O::Of<Shared>, call: Call) {
    shared.decide(call, shared.state.rules.abandoned(std::thread::panicking()), None);
}

impl<O: Own> fmt::Debug for Admission<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("call", &self.call).finish_non_exhaustive()
    }
}
