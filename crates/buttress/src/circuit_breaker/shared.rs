//! What every service of one layer shares, and the guards of a call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Refusal, Settled, State, Ticket, Transition};
use crate::classify::Outcome;
use crate::counters::Counters;
use crate::error::Error;
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
    /// Looked at by every call, so it stands here and not behind another pointer.
    count_calls: bool,
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
        let count_calls = telemetry.common.count_calls;
        Arc::new(Self { state, wakers: WakerSet::new(), count_calls, telemetry })
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

    #[inline]
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, Error> {
        match self.state.admit_closed() {
            Some(ticket) => Ok(self.admission(ticket)),
            None => self.admit_open(),
        }
    }

    #[inline]
    fn admission(self: &Arc<Self>, ticket: Ticket) -> Admission {
        Admission { shared: self.clone(), ticket: Some(ticket), started: None }
    }

    #[cold]
    fn admit_open(self: &Arc<Self>) -> Result<Admission, Error> {
        match self.state.admit(|| self.now()) {
            Ok((ticket, transition)) => {
                self.tell(transition);
                Ok(self.admission(ticket))
            }
            Err(refusal) => Err(self.error(refusal)),
        }
    }

    /// Polls the inner service to readiness; a panic in there is counted as that of a call.
    pub(super) fn watch<T>(self: &Arc<Self>, poll_ready: impl FnOnce() -> T) -> T {
        struct Panicked<'a>(Option<&'a Arc<Shared>>);

        impl Drop for Panicked<'_> {
            fn drop(&mut self) {
                // Dropped while a panic unwinds, an admission counts as panicked.
                drop(self.0.map(Shared::admit));
            }
        }

        let mut panicked = Panicked(Some(self));
        let ready = poll_ready();
        panicked.0 = None;
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
    #[inline]
    pub(super) fn begin(&mut self) {
        let shared = &self.shared;
        if shared.count_calls && self.ticket != Some(Ticket::Uncounted) {
            shared.telemetry.counters.add(ADMITTED);
        }
        if shared.state.rules.slow_after().is_some() {
            self.started = Some(shared.now());
        }
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

    /// The call ended with `outcome`. `hint` is asked of a failure, where the configuration
    /// [honours](Config::honour_hint) it, for how long it wants to be left alone.
    #[inline]
    pub fn settle(mut self, outcome: Outcome, hint: impl FnOnce() -> Option<Duration>) {
        self.settle_in_place(outcome, hint);
    }

    #[inline]
    pub(super) fn settle_in_place(
        &mut self,
        outcome: Outcome,
        hint: impl FnOnce() -> Option<Duration>,
    ) {
        if outcome == Outcome::Success && self.started.is_none() && !self.shared.count_calls {
            let state = &self.shared.state;
            if self.ticket.is_some_and(|ticket| state.success_changes_nothing(ticket)) {
                self.ticket = None;
                return;
            }
        }
        // Before anything is taken: should the user's code panic, the call is settled as a panic.
        let asked = outcome == Outcome::Failure && self.shared.state.rules.honours_hints();
        let hint = if asked { hint() } else { None };
        self.end(outcome, hint);
    }

    #[cold]
    fn abandon(&mut self) {
        let outcome = self.shared.state.rules.abandoned(std::thread::panicking());
        self.end(outcome, None);
    }

    fn end(&mut self, outcome: Outcome, hint: Option<Duration>) {
        let Some(ticket) = self.ticket.take() else { return };
        let shared = &self.shared;
        let Telemetry { counters, common } = &*shared.telemetry;
        match outcome {
            // A disabled circuit counts nothing at all.
            _ if ticket == Ticket::Uncounted => {}
            Outcome::Failure => counters.add(FAILED),
            Outcome::Success if common.count_calls => counters.add(SUCCEEDED),
            _ => {}
        }
        let slow = self.started.is_some_and(|started| {
            let took = shared.now().saturating_duration_since(started);
            shared.state.rules.slow_after().is_some_and(|limit| took >= limit)
        });
        shared.settled(shared.state.settle(ticket, outcome, slow, || shared.now(), hint));
    }
}

impl Drop for Admission {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.abandon();
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
