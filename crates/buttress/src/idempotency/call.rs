//! A call that cannot be answered without waiting: for the store, for another call with its key, or
//! for its handler on a separate task.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tower::Service;

use super::claim::{Form, sealed};
use super::config::StoreFailure;
use super::detached::detach;
use super::holding::Holding;
use super::identity::Identity;
use super::lines::{News, Place, Turn};
use super::running::Running;
use super::settle::Ending;
use super::shared::{Counter, Shared};
use super::store::{ClaimId, Claimed};
use super::tape::Tape;
use crate::vocabulary::clock;
use crate::vocabulary::error::{Error, ErrorKind};
use crate::vocabulary::store_error::StoreError;

/// The parts of a call that it needs in every state.
pub(super) struct Call<S, Req, T, M, V> {
    pub(super) shared: Arc<Shared<V>>,
    pub(super) service: S,
    /// `true` if `service` was polled ready.
    pub(super) ready: bool,
    pub(super) request: Req,
    pub(super) tape: T,
    pub(super) form: M,
}

/// The progress of a call before its first wait.
pub(super) enum Begin<V> {
    /// The store was not asked yet.
    Unasked(Identity, ClaimId),
    /// The store has answered.
    Answered(Identity, ClaimId, Result<Claimed<V>, StoreError>),
    /// The call has the key.
    Holding(Holding<V>),
}

/// The result of claiming the key.
enum Outcome<V> {
    /// Run the handler. The lease was requested at this time, if the time is known.
    Run(Holding<V>, Option<Instant>),
    RunUnprotected,
    Replay(V),
}

type Answer<S, R> = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>;

impl<S, Req, T, M, V> Call<S, Req, T, M, V>
where
    S: Service<M::Request, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
    Req: Send + 'static,
    M: Form<Req, V, Request: Send> + Send + 'static,
    T: Tape<S::Response, S::Error, Value = V, Recording: Send> + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Runs the call from `begin` to its end.
    pub(super) async fn run(mut self, begin: Begin<V>) -> Result<Answer<S, M::Request>, Error> {
        let (holding, since) = match self.own(begin).await? {
            Outcome::Run(holding, since) => (Some(holding), since),
            Outcome::RunUnprotected => (None, None),
            Outcome::Replay(value) => return Ok(self.tape.replay(value)),
        };
        let Self { shared, mut service, ready, request, tape, form } = self;
        let (request, handed) = form.form(request, sealed::Held(holding.as_ref()));
        let handler = async move {
            if !ready {
                poll_fn(|cx| service.poll_ready(cx)).await?;
            }
            service.call(request).await
        };
        let entered = match shared.config.detached.map(|_| shared.detached.enter()) {
            None => None,
            Some(Ok(entered)) => Some(entered),
            Some(Err(kind)) => {
                drop(handler);
                if let Some(holding) = holding {
                    give_up(holding).await;
                }
                return Err(shared.refuse(kind, None));
            }
        };
        match (holding, entered) {
            (Some(holding), None) => Running::new(handler, holding, handed.0, tape, since).await,
            (Some(holding), Some(entered)) => {
                let running = Running::new(handler, holding, handed.0, tape, since);
                detach(&shared, entered, running).await
            }
            (None, None) => Ok(handler.await),
            // It runs unprotected, but still to its end, and a drain waits for it.
            (None, Some(entered)) => {
                detach(&shared, entered, async move { Ok(handler.await) }).await
            }
        }
    }

    /// Claims the key, or finds the reason why this call does not run.
    async fn own(&mut self, begin: Begin<V>) -> Result<Outcome<V>, Error> {
        let shared = self.shared.clone();
        // A lease counts from before the request: the caller does not know when the store granted
        // it.
        let mut asked = shared.now();
        let (identity, claim, mut claimed) = match begin {
            Begin::Holding(holding) => return Ok(Outcome::Run(holding, None)),
            Begin::Answered(identity, claim, claimed) => (identity, claim, claimed),
            Begin::Unasked(identity, claim) => {
                let claimed = shared.claim(&identity, claim).await;
                (identity, claim, claimed)
            }
        };
        let mut place = None;
        let mut ends = None;
        let mut late = 0;
        loop {
            let lease_left = match claimed {
                // The answer took longer than the lease, so another call may have the key by now.
                // The store decides when the same claim is repeated.
                Ok(Claimed::Owned) if clock::after(asked, shared.config.lease) <= shared.now() => {
                    late += 1;
                    asked = shared.now();
                    claimed = match late < shared.config.store_attempts {
                        true => shared.claim(&identity, claim).await,
                        false => Err(StoreError::transient("every answer came after the lease")),
                    };
                    continue;
                }
                Ok(Claimed::Owned) => {
                    // The key gets its new owner before its waiters lose their first, and before an
                    // observer is called, which may panic.
                    let mut holding = Holding::new(&shared, identity, claim);
                    holding.list(asked);
                    if place.is_some() {
                        shared.counters.add(Counter::TakenOver);
                        shared.config.common.taken_over();
                    }
                    return Ok(Outcome::Run(holding, Some(asked)));
                }
                Ok(Claimed::Done(value)) => {
                    if let Some(place) = place {
                        Place::found(place, &value);
                    }
                    shared.replayed();
                    return Ok(Outcome::Replay(value));
                }
                Ok(Claimed::NotKept) => return Err(shared.refuse(ErrorKind::ResultNotKept, None)),
                Ok(Claimed::Mismatch) => return Err(shared.refuse(ErrorKind::KeyReused, None)),
                Ok(Claimed::InFlight { lease_left }) => lease_left,
                Err(error) => {
                    shared.store_failed("claim", &error);
                    if shared.config.store_failure == StoreFailure::Open {
                        shared.counters.add(Counter::Unprotected);
                        return Ok(Outcome::RunUnprotected);
                    }
                    return Err(shared.refuse_store(&error));
                }
            };
            if shared.config.refuse_in_flight {
                return Err(shared.refuse_in_flight(lease_left));
            }
            let now = shared.now();
            let until = clock::after(now, lease_left);
            if place.is_none() {
                shared.counters.add(Counter::Waited);
                self.give_back_readiness();
                ends = Some(clock::after(now, shared.config.longest_wait));
                let joined = Place::join(&shared.lines, &identity, until);
                let owned = joined.is_owned();
                place = Some(joined);
                if !owned {
                    // The call that had the key may have ended since the store was asked, without a
                    // waiter to notify.
                    asked = shared.now();
                    claimed = shared.claim(&identity, claim).await;
                    continue;
                }
            }
            let (Some(place), Some(ends)) = (&place, ends) else { continue };
            place.learned(until);
            match wait(&shared, place, now, ends).await {
                Waited::News(News::Answer(value)) => {
                    shared.replayed();
                    return Ok(Outcome::Replay(value));
                }
                Waited::News(News::Look) => {
                    asked = shared.now();
                    claimed = shared.claim(&identity, claim).await;
                }
                Waited::TimedOut(lease_left) => {
                    return Err(shared.refuse_in_flight(lease_left));
                }
            }
        }
    }

    /// Releases the readiness of the inner service, because a waiting call must reserve nothing in
    /// it.
    fn give_back_readiness(&mut self) {
        if std::mem::take(&mut self.ready) {
            let fresh = self.service.clone();
            drop(std::mem::replace(&mut self.service, fresh));
        }
    }
}

/// Releases a key whose handler has not begun.
async fn give_up<V: Clone + Send + 'static>(mut holding: Holding<V>) {
    let Some(shared) = holding.end() else { return };
    let owner = holding.owner().clone();
    if shared.settle_now(&owner, Ending::Failed).is_err() {
        shared.settle(owner, Ending::Failed).await;
    }
}

enum Waited<V> {
    News(News<V>),
    /// The longest wait is over. The value is the rest of the lease.
    TimedOut(Duration),
}

/// Waits for the key from `now` until `ends` at most.
async fn wait<V>(
    shared: &Shared<V>,
    place: &Place<'_, V>,
    now: Instant,
    ends: Instant,
) -> Waited<V> {
    let config = &shared.config;
    let clock = &config.common.clock;
    let poll_at = clock::after(now, config.poll_interval);
    let mut set = ends;
    let mut timer = pin!(clock.sleep_until(set));
    poll_fn(|cx| {
        if let Poll::Ready(news) = place.poll(cx) {
            return Poll::Ready(Waited::News(news));
        }
        loop {
            let look = place.turn().map(|Turn { owned, until }| match owned {
                true => until,
                false => until.min(poll_at),
            });
            let next = look.map_or(ends, |look| look.min(ends));
            if next != set {
                set = next;
                timer.as_mut().reset(set);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // The facts may have changed since the timer was set.
            if look.is_some_and(|look| look <= set) && ends > now {
                return Poll::Ready(Waited::News(News::Look));
            }
            if set == ends {
                let left = place.until().map(|until| until.saturating_duration_since(ends));
                return Poll::Ready(Waited::TimedOut(left.unwrap_or_default()));
            }
        }
    })
    .await
}
