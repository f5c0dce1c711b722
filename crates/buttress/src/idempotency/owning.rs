//! Claiming the key of a call, and waiting for the answer of another call with the same key.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::config::StoreFailure;
use super::holding::Holding;
use super::identity::Identity;
use super::shared::{Counter, Shared};
use super::store::{ClaimId, Claimed};
use super::waiters::{News, Place, Turn};
use crate::vocabulary::clock;
use crate::vocabulary::error::{Error, ErrorKind};
use crate::vocabulary::store_error::{Answer, StoreError};

/// The progress of a call before its next wait.
pub(super) enum Begin<V> {
    /// The store was not asked yet.
    Unasked(Identity, ClaimId),
    /// The store has answered.
    Answered(Identity, ClaimId, Answer<Claimed<V>>),
    /// The call has the key.
    Holding(Holding<V>),
    /// The call has released the readiness of its inner service, and joins the waiters of its key.
    /// The duration is the rest of the lease.
    InLine(Identity, ClaimId, Duration),
}

/// The result of claiming the key.
pub(super) enum Owned<V> {
    /// Run the handler. The lease was requested at this time, if the time is known.
    Run(Holding<V>, Option<Instant>),
    RunUnprotected,
    Replay(V),
    /// Release the readiness of the inner service, and continue among the waiters of the key.
    Waits(Begin<V>),
}

/// The future of [`own`], boxed. It does not hold the inner service.
pub(super) type Owning<V> = Pin<Box<dyn Future<Output = Result<Owned<V>, Error>> + Send>>;

/// Claims the key, or finds the reason why this call does not run.
pub(super) async fn own<V: Clone + Send + 'static>(
    shared: Arc<Shared<V>>,
    begin: Begin<V>,
) -> Result<Owned<V>, Error> {
    // A lease counts from before the request: the caller does not know when the store granted it.
    let mut asked = shared.now();
    let mut in_line = false;
    let (identity, claim, mut claimed) = match begin {
        Begin::Holding(holding) => return Ok(Owned::Run(holding, None)),
        Begin::Answered(identity, claim, claimed) => (identity, claim, claimed),
        Begin::Unasked(identity, claim) => {
            let claimed = shared.claim(&identity, claim).await;
            (identity, claim, claimed)
        }
        Begin::InLine(identity, claim, lease_left) => {
            in_line = true;
            (identity, claim, Ok(Claimed::InFlight { lease_left }))
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
                return Ok(Owned::Run(holding, Some(asked)));
            }
            Ok(Claimed::Done(value)) => {
                if let Some(place) = place {
                    Place::found(place, &value);
                }
                shared.replayed();
                return Ok(Owned::Replay(value));
            }
            Ok(Claimed::NotKept) => return Err(shared.refuse(ErrorKind::ResultNotKept, None)),
            Ok(Claimed::Mismatch) => return Err(shared.refuse(ErrorKind::KeyReused, None)),
            Ok(Claimed::InFlight { lease_left }) => lease_left,
            Err(error) => {
                shared.store_failed("claim", &error);
                if shared.config.store_failure == StoreFailure::Open {
                    shared.counters.add(Counter::Unprotected);
                    return Ok(Owned::RunUnprotected);
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
            if !in_line {
                return Ok(Owned::Waits(Begin::InLine(identity, claim, lease_left)));
            }
            shared.counters.add(Counter::Waited);
            ends = Some(clock::after(now, shared.config.longest_wait));
            let joined = Place::join(&shared.waiters, &identity, until);
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
                return Ok(Owned::Replay(value));
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
