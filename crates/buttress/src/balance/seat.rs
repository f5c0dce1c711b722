//! The place of a call at its endpoint: the guard of the call.

use std::sync::Arc;

use super::endpoints::Endpoint;
use super::shared::{Core, Verdict};
use super::tried::Tried;
use crate::machinery::guard::Guard;

/// The place of a call at its endpoint. Dropping it ends the call.
pub(super) struct Seat<S> {
    pub core: Arc<Core<S>>,
    /// `None` before the endpoint is chosen, and once the call is over.
    endpoint: Option<Arc<Endpoint<S>>>,
    /// The record of the request's attempts.
    tried: Option<Tried>,
    started: u64,
    epoch: u32,
}

impl<S> Seat<S> {
    /// Begins a call, whose time counts from `now`.
    #[inline]
    pub(super) fn new(core: Arc<Core<S>>, endpoint: Option<Arc<Endpoint<S>>>, now: u64) -> Self {
        let mut seat = Self { core, endpoint: None, tried: None, started: now, epoch: 0 };
        if let Some(endpoint) = endpoint {
            seat.take(endpoint, now);
        }
        seat
    }

    #[inline]
    pub(super) fn take(&mut self, endpoint: Arc<Endpoint<S>>, now: u64) {
        endpoint.history.begin();
        (self.started, self.epoch) = (now, endpoint.history.epoch());
        self.endpoint = Some(endpoint);
    }

    #[inline]
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint<S>>> {
        self.endpoint.as_ref()
    }

    /// Counts the call, which the endpoint gets now.
    #[inline]
    pub(super) fn called(&mut self, tried: Option<Tried>) {
        self.tried = tried;
        if self.core.shared.common.count_calls {
            if let Some(endpoint) = &self.endpoint {
                endpoint.history.calls.fetch_add(1, crate::sync::Ordering::Relaxed);
            }
        }
    }

    /// Leaves the endpoint, which did not get the call.
    #[cold]
    pub(super) fn leave(&mut self) -> Option<Arc<Endpoint<S>>> {
        let endpoint = self.endpoint.take()?;
        endpoint.history.end();
        Some(endpoint)
    }

    #[inline]
    pub(super) fn end(&mut self, verdict: Verdict) {
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.history.end();
            let seat = (self.begun(), self.epoch);
            self.core.ended(&endpoint.history, seat, verdict);
        }
    }

    /// Returns when the endpoint could begin: later than the call if it waited for the caller.
    #[inline]
    fn begun(&mut self) -> u64 {
        let begun = self.tried.take().and_then(|tried| tried.take_begun());
        begun.map_or(self.started, |begun| self.started.max(self.core.shared.nanos(begun)))
    }

    /// Ends a call that was dropped. It is not a failure, but it took at least this long.
    #[cold]
    #[inline(never)]
    fn abandon(&mut self) {
        if let Some(endpoint) = self.leave() {
            let (now, begun) = (self.core.shared.now(), self.begun());
            endpoint.history.measure.took(now, now.saturating_sub(begun));
        }
    }
}

impl<S> Guard for Seat<S> {
    #[inline]
    fn give_back(&mut self) {
        if self.endpoint.is_some() {
            self.abandon();
        }
    }
}

impl<S> Drop for Seat<S> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}
