//! A call whose first endpoint cannot take it. Rare, so it is boxed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::Service;

use super::choice::Choice;
use super::endpoints::{Endpoint, Set};
use super::shared::{Core, Counter, after, longest_wait};
use super::tried::Tried;
use crate::machinery::published::Seen;
use crate::machinery::wakers::Owner;
use crate::vocabulary::clock::Sleep;
use crate::vocabulary::error::{Error, NoEndpoint};

/// An endpoint, and the clone of its stack that gets the call.
pub(super) type Ready<S> = (Arc<Endpoint<S>>, S);

/// The wishes of a request: its key, and the record of its attempts.
#[derive(Default)]
pub(super) struct Wishes {
    pub key: Option<u64>,
    pub tried: Option<Tried>,
}

impl Wishes {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_none() && self.tried.is_none()
    }

    /// Records the endpoint that gets the request.
    #[inline]
    pub(super) fn meet(&self, serial: u64) {
        if let Some(tried) = &self.tried {
            tried.add(serial);
        }
    }
}

/// Chooses a place in `set` for a request with `wishes`, among the endpoints that `may` permits. Endpoints that the
/// request has met come last.
pub(super) fn choose<S>(
    set: &Set<S>,
    choice: Choice<'_>,
    wishes: &Wishes,
    may: impl Fn(u64) -> bool + Copy,
) -> Option<usize> {
    let Some(tried) = &wishes.tried else { return among(set, choice, wishes.key, may) };
    let is_new = |serial| may(serial) && !tried.has(serial);
    among(set, choice, wishes.key, is_new).or_else(|| among(set, choice, wishes.key, may))
}

fn among<S>(
    set: &Set<S>,
    choice: Choice<'_>,
    key: Option<u64>,
    may: impl Fn(u64) -> bool,
) -> Option<usize> {
    match key {
        Some(key) => set.plan.rendezvous(key, may),
        None => set.plan.choose_among(choice, may),
    }
}

/// A call that waits for an endpoint. It polls a clone of each endpoint in turn, and keeps all of them until one is
/// ready.
pub(super) struct Waiting<S> {
    core: Arc<Core<S>>,
    wishes: Wishes,
    seen: Seen<Set<S>>,
    asked: Vec<Ready<S>>,
    owner: Owner,
    began: u64,
    wait: Duration,
    /// Whether the wait ends at the deadline of the request.
    until_deadline: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S: Clone> Waiting<S> {
    pub(super) fn new(core: Arc<Core<S>>, wishes: Wishes, asked: Option<Ready<S>>) -> Box<Self> {
        let (wait, until_deadline) =
            longest_wait(core.shared.rules(), || core.shared.common.clock.now());
        let (seen, began) = (core.pool.published.see(), core.shared.now());
        let asked = asked.into_iter().collect();
        let owner = Owner::default();
        let sleep = None;
        Box::new(Self { core, wishes, seen, asked, owner, began, wait, until_deadline, sleep })
    }

    /// Records the endpoint that gets the call. Returns the record of the request's attempts.
    pub(super) fn meet(&mut self, endpoint: &Endpoint<S>) -> Option<Tried> {
        self.wishes.meet(endpoint.history.serial);
        self.wishes.tried.take()
    }

    /// Returns the first endpoint that can take the call.
    pub(super) fn poll<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ready<S>, Error>>
    where
        S: Service<Req>,
    {
        loop {
            while !self.core.pool.published.wait(&mut self.owner, cx, &self.seen) {
                self.seen = self.core.pool.published.see();
            }
            let now = self.core.shared.now();
            if now >= self.seen.value().plan.next {
                self.core.turn(now);
                continue;
            }
            match self.ask_all(cx, now) {
                Asked::Ready(ready) => return Poll::Ready(Ok(*ready)),
                // The set has changed by it.
                Asked::Failed => continue,
                Asked::Pending => {}
            }
            let end = after(self.began, self.wait);
            if now >= end {
                return Poll::Ready(Err(self.refuse(self.wait)));
            }
            if self.seen.value().plan.members == 0 && self.core.shared.is_set_known() {
                // The resolver knows that there is no endpoint.
                self.until_deadline = false;
                let waited = Duration::from_nanos(now.saturating_sub(self.began));
                return Poll::Ready(Err(self.refuse(waited)));
            }
            let wake = self.core.shared.instant(end.min(self.seen.value().plan.next));
            let clock = &self.core.shared.common.clock;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(clock.sleep_until(wake)));
            sleep.as_mut().reset(wake);
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Polls the endpoints that were asked and are still in, and then the other endpoints.
    fn ask_all<Req>(&mut self, cx: &mut Context<'_>, now: u64) -> Asked<S>
    where
        S: Service<Req>,
    {
        let set = self.seen.value().clone();
        let mut place = 0;
        self.asked.retain(|(endpoint, _)| set.endpoints.iter().any(|it| Arc::ptr_eq(it, endpoint)));
        loop {
            while let Some((endpoint, service)) = self.asked.get_mut(place) {
                match service.poll_ready(cx) {
                    Poll::Pending => place += 1,
                    Poll::Ready(Ok(())) => {
                        endpoint.history.was_ready();
                        return Asked::Ready(Box::new(self.asked.swap_remove(place)));
                    }
                    Poll::Ready(Err(_)) => {
                        let (endpoint, _service) = self.asked.swap_remove(place);
                        self.core.not_ready(&endpoint);
                        return Asked::Failed;
                    }
                }
            }
            let shared = &self.core.shared;
            let (policy, turn) = (shared.policy, &self.core.pool.turn);
            let choice = Choice { policy, draw: shared.rng.next_u64(), now, turn };
            let is_new = |serial| self.asked.iter().all(|(it, _)| it.history.serial != serial);
            let next = choose(&set, choice, &self.wishes, is_new);
            match next.and_then(|place| set.endpoints.get(place)) {
                Some(endpoint) => self.asked.push((endpoint.clone(), endpoint.service())),
                None => return Asked::Pending,
            }
        }
    }

    /// Refuses the call. Observers and metrics get the reason, also if the caller gets its passed deadline.
    fn refuse(&self, waited: Duration) -> Error {
        let (shared, error) = (&self.core.shared, self.no_endpoint(waited));
        shared.counters.add(Counter::Refused);
        shared.common.refused(|| error.clone());
        if self.until_deadline {
            return Error::deadline_exceeded_before(shared.common.name, self.wait);
        }
        error
    }

    fn no_endpoint(&self, waited: Duration) -> Error {
        let plan = &self.seen.value().plan;
        let why = if plan.members == 0 {
            NoEndpoint::Empty
        } else if plan.is_empty() {
            NoEndpoint::Failed
        } else {
            NoEndpoint::Busy
        };
        Error::no_endpoint(self.core.shared.common.name, why, plan.members, waited)
    }
}

enum Asked<S> {
    Ready(Box<Ready<S>>),
    Failed,
    Pending,
}

impl<S> Drop for Waiting<S> {
    fn drop(&mut self) {
        self.core.pool.published.forget(&mut self.owner);
    }
}
