//! Renewing the claim of a handler that runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::backend::{Backend, Op};
use super::bounded::bounded;
use super::claim::Begun;
use super::config::{LostClaim, StoreFailure};
use super::holding::Holding;
use super::owner::Owner;
use super::shared::BY_HAND;
use super::store::Immediate;
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::clock::{self, Sleep};
use crate::vocabulary::error::Error;
use crate::vocabulary::store_error::StoreError;

/// The longest wait between two renewals while the store is away.
const LONGEST: Duration = Duration::from_secs(10);

pin_project! {
    /// When a claim is renewed.
    pub(super) struct Renewal {
        #[pin]
        timer: Sleep,
        // Not to wait for the timer.
        due: bool,
        // The operation, and when it was begun.
        asking: Option<(Op<Standing>, Instant)>,
        // Failures in a row.
        failed: u32,
        // The end of the lease as far as this call knows: counted from before the store was asked.
        until: Instant,
        // Since when the handler is not polled, because the lease ran out and the store fails.
        held_since: Option<Instant>,
        pub(super) standing: Standing,
    }
}

/// How a claim stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Held,
    /// The handler has committed the answer, and runs on: there is nothing left to renew.
    Completed,
    /// Somebody else has the key, and the handler runs on.
    Lost,
}

/// A call holds its claim until it has ended.
#[cold]
fn ended() -> ! {
    polled_after_completion("idempotency::ResponseFuture")
}

impl Renewal {
    /// Renews the claim when it is time. Ready if it was lost, with the refusal.
    #[inline(never)]
    pub(super) fn poll<V: Send + 'static>(
        renewal: &mut Option<Pin<Box<Self>>>,
        since: Option<Instant>,
        holding: &mut Holding<V>,
        begun: Option<&Arc<Begun<V>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        let renewal = match renewal {
            Some(renewal) => renewal,
            None => {
                let Some(made) = Self::begin(since, holding) else { ended() };
                renewal.insert(made)
            }
        };
        let Some(shared) = holding.shared() else { ended() };
        let mut this = renewal.as_mut().project();
        while *this.standing == Standing::Held {
            let (standing, since) = match this.asking {
                Some((asking, since)) => {
                    let standing = (ready!(asking.as_mut().poll(cx)), *since);
                    *this.asking = None;
                    standing
                }
                None => {
                    if !std::mem::take(this.due) {
                        ready!(this.timer.as_mut().poll(cx));
                    }
                    let (owner, since) = (holding.owner(), shared.now());
                    let lease = shared.config.lease;
                    let Some(store) = shared.store.at_once() else {
                        let (store, begun) = (shared.store.clone(), begun.cloned());
                        let asking = renew(store, owner.clone(), lease, begun);
                        let clock = shared.config.common.clock.clone();
                        // The next attempt must still be in time.
                        let limit = shared.config.patience.min(lease / 3);
                        let asking = async move { bounded(&clock, limit, asking).await };
                        *this.asking = Some((Box::pin(asking), since));
                        continue;
                    };
                    (renew_now(store, owner, lease, begun), since)
                }
            };
            let owner = holding.owner();
            match standing {
                Ok(Standing::Held) => {
                    (*this.failed, *this.held_since) = (0, None);
                    *this.until = clock::after(since, shared.config.lease);
                    shared.lines.renewed(owner, *this.until);
                    this.timer.as_mut().reset(clock::after(since, shared.config.lease / 3));
                    shared.worked("renew");
                }
                Ok(standing) => {
                    *this.standing = standing;
                    // Whoever waits finds the answer, or who has the key now.
                    shared.lines.left(owner);
                    if standing == Standing::Lost {
                        let error = shared.fenced();
                        if shared.config.lost_claim == LostClaim::Refuse {
                            return Poll::Ready(error);
                        }
                    }
                }
                Err(error) => {
                    // Soon at first, so that the lease is still saved; ever later in a long outage.
                    let doublings = this.failed.saturating_sub(1).min(16);
                    *this.failed = this.failed.saturating_add(1);
                    let config = &shared.config;
                    let wait = config.poll_interval.saturating_mul(1 << doublings);
                    let wait = match error.is_misconfigured() {
                        true => BY_HAND,
                        false => wait.min(config.lease / 3).min(LONGEST),
                    };
                    let next = clock::after(shared.now(), wait);
                    this.timer.as_mut().reset(next);
                    shared.store_failed("renew", &error);
                    // The store does not say who has the key.
                    let fenced_by_itself =
                        begun.is_some() || config.lost_claim == LostClaim::Answer;
                    if config.store_failure == StoreFailure::Open || fenced_by_itself {
                        *this.until = (*this.until).max(next);
                    } else if *this.until <= shared.now() {
                        let held_since = *this.held_since.get_or_insert(since);
                        if clock::after(held_since, config.patience) <= shared.now() {
                            // The handler may hold what the store waits for.
                            *this.standing = Standing::Lost;
                            shared.lines.left(owner);
                            return Poll::Ready(shared.fenced());
                        }
                    }
                }
            }
        }
        Poll::Pending
    }
}

impl Renewal {
    /// Whether the handler may go on. A handler whose lease has run out while its process stood still waits for
    /// the store's answer: another call may have the key, and whatever the handler does next would be done twice.
    /// So does a handler that has not begun, and whose lease ran out since `since`, when its claim was asked for.
    /// A handler that completes its claim in its own transaction does not wait once it has begun: the store may
    /// wait for that transaction, which is fenced by itself. Ready with the refusal if the claim was lost.
    #[inline]
    pub(super) fn confirm<V: Send + 'static>(
        renewal: &mut Option<Pin<Box<Self>>>,
        since: Option<Instant>,
        holding: &mut Holding<V>,
        begun: Option<&Arc<Begun<V>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        match renewal {
            Some(known) if begun.is_none() && known.has_lapsed(holding) => {
                Self::confirm_lapsed(renewal, holding, begun, cx)
            }
            None if since.is_some_and(|since| Self::is_late(since, holding)) => {
                if let Some(mut made) = Self::begin(since, holding) {
                    *made.as_mut().project().due = true;
                    *renewal = Some(made);
                }
                Self::confirm_lapsed(renewal, holding, begun, cx)
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Returns `true` if a lease that was begun at `since` has run out before the handler was
    /// polled.
    fn is_late<V>(since: Instant, holding: &Holding<V>) -> bool {
        let Some(shared) = holding.shared() else { return false };
        shared.config.lost_claim == LostClaim::Refuse
            && clock::after(since, shared.config.lease) <= shared.now()
    }

    fn has_lapsed<V>(&self, holding: &Holding<V>) -> bool {
        let Some(shared) = holding.shared() else { return false };
        // With `Answer` a handler runs to its end whoever has the key.
        self.standing == Standing::Held
            && shared.config.lost_claim == LostClaim::Refuse
            && self.until <= shared.now()
    }

    #[cold]
    #[inline(never)]
    fn confirm_lapsed<V: Send + 'static>(
        renewal: &mut Option<Pin<Box<Self>>>,
        holding: &mut Holding<V>,
        begun: Option<&Arc<Begun<V>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Poll::Ready(error) = Self::poll(renewal, None, holding, begun, cx) {
            return Poll::Ready(Err(error));
        }
        match renewal {
            Some(known) if known.has_lapsed(holding) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The handler has to wait for the first time. A claim of which nobody knows how old it is, because
    /// a handler that answers at once needs no clock, is renewed now.
    fn begin<V>(since: Option<Instant>, holding: &mut Holding<V>) -> Option<Pin<Box<Self>>> {
        let now = since.or_else(|| holding.shared().map(|shared| shared.now()))?;
        holding.list(now);
        let config = &holding.shared()?.config;
        let timer = config.common.clock.sleep_until(clock::after(now, config.lease / 3));
        let until = clock::after(now, config.lease);
        let (due, standing) = (since.is_none(), Standing::Held);
        Some(Box::pin(Self {
            timer,
            due,
            asking: None,
            failed: 0,
            until,
            held_since: None,
            standing,
        }))
    }
}

/// Renews the claim of `owner`. A store refuses that of one that is completed, too: if the handler has
/// begun to complete it itself, only the outcome tells that from a loss.
async fn renew<V: Send + 'static>(
    store: Arc<dyn Backend<V>>,
    owner: Owner,
    lease: Duration,
    begun: Option<Arc<Begun<V>>>,
) -> Result<Standing, StoreError> {
    let Owner { identity, claim, .. } = owner;
    match store.clone().begin_renew(identity.clone(), claim, lease).await {
        Err(error) if error.is_fenced() => {}
        renewed => return renewed.map(|()| Standing::Held),
    }
    // Not before the renewal: that may have waited for the end of the handler's transaction.
    if !begun.is_some_and(|begun| begun.has_begun()) {
        return Ok(Standing::Lost);
    }
    Ok(standing(store.begin_outcome(identity, claim).await?))
}

/// Returns the same in a store that answers at once.
fn renew_now<V>(
    store: &dyn Immediate<V>,
    owner: &Owner,
    lease: Duration,
    begun: Option<&Arc<Begun<V>>>,
) -> Result<Standing, StoreError> {
    let Owner { identity, claim, .. } = owner;
    match store.renew_claim_now(&identity.key, *claim, lease) {
        Err(error) if error.is_fenced() => {}
        renewed => return renewed.map(|()| Standing::Held),
    }
    if !begun.is_some_and(|begun| begun.has_begun()) {
        return Ok(Standing::Lost);
    }
    Ok(standing(store.outcome_now(&identity.key, *claim)?))
}

fn standing<V>(outcome: Option<V>) -> Standing {
    if outcome.is_some() { Standing::Completed } else { Standing::Lost }
}
