//! What every service of one layer shares, and the guards of a call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Refusal, Settled, State, Ticket, Transition};
use crate::classify::Outcome;
use crate::counters::Counters;
use crate::error::Error;
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

    pub(super) fn now(&self) -> Instant {
        self.telemetry.common.clock.now()
    }

    /// The refusal a call would meet now.
    #[inline]
    pub(super) fn peek(&self) -> Option<Error> {
        if self.state.admit_closed().is_some() { None } else { self.peek_open() }
    }

    fn peek_open(&self) -> Option<Error> {
        self.state.peek(|| self.now()).map(|refusal| self.error(refusal))
    }

    fn error(&self, refusal: Refusal) -> Error {
        Error::circuit_open(self.telemetry.common.name, refusal.retry_after)
    }

    pub(super) fn refuse(&self, error: Error) -> Error {
        self.telemetry.refuse(error)
    }

    /// Admits a call at a look, if that is all it takes. The call has begun then, too.
    #[inline]
    pub(super) fn admit_closed(self: &Arc<Self>) -> Option<Admission> {
        self.state.admit_closed().map(|ticket| self.admission(ticket))
    }

    #[inline]
    fn admission(self: &Arc<Self>, ticket: Ticket) -> Admission {
        Admission { shared: self.clone(), call: Call { ticket, started: NEVER } }
    }

    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, Error> {
        match self.state.admit(|| self.now()) {
            Ok((ticket, transition)) => {
                self.tell(transition);
                Ok(self.admission(ticket))
            }
            Err(refusal) => Err(self.error(refusal)),
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

    /// Settles `call`. Out of line, and given all it needs by value: the future of a call whose success
    /// changes nothing then needs no memory of its own.
    #[inline(never)]
    fn end(&self, call: Call, outcome: Outcome, hint: Option<Duration>) {
        if outcome != Outcome::Success || !self.state.count_good(call.ticket, || self.now()) {
            self.decide(call, outcome, hint);
        }
    }

    #[inline(never)]
    fn decide(&self, Call { ticket, started }: Call, outcome: Outcome, hint: Option<Duration>) {
        let Telemetry { counters, common } = &*self.telemetry;
        match outcome {
            // A disabled circuit counts nothing at all.
            _ if ticket.is_uncounted() => {}
            Outcome::Failure => counters.add(FAILED),
            Outcome::Success if common.count_calls => counters.add(SUCCEEDED),
            _ => {}
        }
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

    #[cold]
    fn abandon(&self, call: Call) {
        self.end(call, self.state.rules.abandoned(std::thread::panicking()), None);
    }
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct Call {
    ticket: Ticket,
    /// When, in nanoseconds of the state's; read only if slow calls count.
    started: u64,
}

/// Stands in [`Call::started`] for "not read".
const NEVER: u64 = u64::MAX;

/// A call that a circuit breaker let through, to be settled once. Dropping it unsettled counts as the
/// configuration says: as [`dropped_calls`](Config::dropped_calls), or as
/// [`panicked_calls`](Config::panicked_calls) while a panic unwinds.
#[must_use = "dropping an admission settles it as abandoned"]
pub struct Admission {
    shared: Arc<Shared>,
    call: Call,
}

impl Admission {
    /// The call begins now.
    pub(super) fn begin(&mut self) {
        let Telemetry { counters, common } = &*self.shared.telemetry;
        if common.count_calls && !self.call.ticket.is_uncounted() {
            counters.add(ADMITTED);
        }
        if self.shared.state.rules.times_calls() {
            self.call.started = self.shared.state.nanos(self.shared.now());
        }
    }

    /// Whether the circuit is still in the state that admitted this call.
    pub(super) fn is_current(&self) -> bool {
        self.shared.state.is_current(self.call.ticket)
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
        let (call, shared) = (self.call, &*self.shared);
        if outcome == Outcome::Success && shared.state.success_changes_nothing(call.ticket) {
            self.call.ticket = Ticket::SETTLED;
            return;
        }
        // Before the call is taken: should the user's code panic, it is settled as a panic.
        let asked = outcome == Outcome::Failure && shared.state.rules.honours_hints();
        let hint = if asked { hint() } else { None };
        self.call.ticket = Ticket::SETTLED;
        shared.end(call, outcome, hint);
    }
}

impl Guard for Admission {
    /// Settles the call as abandoned.
    #[inline]
    fn give_back(&mut self) {
        let call = self.call;
        if call.ticket != Ticket::SETTLED {
            self.call.ticket = Ticket::SETTLED;
            self.shared.abandon(call);
        }
    }
}

impl Drop for Admission {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("call", &self.call).finish_non_exhaustive()
    }
}
