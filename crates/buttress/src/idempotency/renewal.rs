//! Renews the claim of a running handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::backend::{Backend, Op};
use super::bounded::bounded;
use super::config::{LostClaim, StoreFailure};
use super::holding::Holding;
use super::owner::Owner;
use super::shared::BY_HAND;
use super::store::Immediate;
use super::transactional::Begun;
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::clock::{self, Sleep};
use crate::vocabulary::error::Error;
use crate::vocabulary::store_error::Answer;

/// The longest wait between two renewals while the store is unavailable.
const LONGEST: Duration = Duration::from_secs(10);

pin_project! {
    /// The state of a claim's renewal.
    pub(super) struct Renewal {
        #[pin]
        timer: Sleep,
        // `true` to renew without waiting for the timer.
        due: bool,
        // The operation, and when it began.
        asking: Option<(Op<Standing>, Instant)>,
        // Failures in a row.
        failed: u32,
        // The end of the lease as this call knows it, counted from before the request.
        until: Instant,
        // Since when the handler is not polled, because the lease has ended and the store fails.
        held_since: Option<Instant>,
        pub standing: Standing,
    }
}

/// The state of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Held,
    /// The handler has committed the answer and continues. Nothing is left to renew.
    Completed,
    /// Another call has the key, and the handler continues.
    Lost,
}

/// Panics, because a call holds its claim until its end.
#[cold]
fn ended() -> ! {
    polled_after_completion("idempotency::ResponseFuture")
}

impl Renewal {
    /// Renews the claim when it is due. Ready with the refusal if the claim was lost.
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
                    let Some(store) = shared.store.immediate() else {
                        let (store, begun) = (shared.store.clone(), begun.cloned());
                        let asking = renew(store, owner.clone(), lease, begun);
                        let clock = shared.config.common.clock.clone();
                        // The next attempt must still come before the end of the lease.
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
                    shared.waiters.renewed(owner, *this.until);
                    this.timer.as_mut().reset(clock::after(since, shared.config.lease / 3));
                    shared.worked("renew");
                }
                Ok(standing) => {
                    *this.standing = standing;
                    // Waiters find the answer, or the new owner of the key.
                    shared.waiters.left(owner);
                    if standing == Standing::Lost {
                        let error = shared.fenced();
                        if shared.config.lost_claim == LostClaim::Refuse {
                            return Poll::Ready(error);
                        }
                    }
                }
                Err(error) => {
                    // The first wait is short, so that the lease survives. The waits grow in a long
                    // outage.
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
                    // The transaction that completes the claim locks its row until it ends. This is
                    // no failure of the store, and only the renewal meets it.
                    let locked = begun.is_some_and(|begun| begun.may_lock());
                    if !(locked && error.is_transient()) {
                        shared.store_failed("renew", &error);
                    }
                    // The store does not know who has the key.
                    let fenced_by_itself =
                        begun.is_some() || config.lost_claim == LostClaim::Answer;
                    if config.store_failure == StoreFailure::Open || fenced_by_itself {
                        *this.until = (*this.until).max(next);
                    } else if *this.until <= shared.now() {
                        let held_since = *this.held_since.get_or_insert(since);
                        if clock::after(held_since, config.patience) <= shared.now() {
                            // The handler may hold the resource that the store waits for.
                            *this.standing = Standing::Lost;
                            shared.waiters.left(owner);
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
    /// Decides whether the handler may continue. Ready with the refusal if the claim was lost.
    ///
    /// A handler whose lease ended while its process was paused waits for the store's answer.
    /// Another call may have the key by then, and both would do the work. A handler that has not
    /// begun, and whose lease, requested at `since`, has ended, waits as well. A handler that
    /// completes its claim in its own transaction does not wait once it has begun. The store may
    /// wait for that transaction, and the transaction itself is fenced.
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

    /// Returns `true` if a lease that was requested at `since` has ended before the handler was
    /// polled.
    fn is_late<V>(since: Instant, holding: &Holding<V>) -> bool {
        let Some(shared) = holding.shared() else { return false };
        shared.config.lost_claim == LostClaim::Refuse
            && clock::after(since, shared.config.lease) <= shared.now()
    }

    fn has_lapsed<V>(&self, holding: &Holding<V>) -> bool {
        let Some(shared) = holding.shared() else { return false };
        // With `Answer`, a handler runs to its end even if another call has the key.
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

    /// Begins the renewals, because the handler has to wait for the first time. A claim of unknown
    /// age, because a handler that ends immediately needs no clock, is renewed now.
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

/// Renews the claim of `owner`. A store also refuses to renew a completed claim. If the handler has
/// begun to complete its claim itself, only the outcome distinguishes this from a loss.
async fn renew<V: Send + 'static>(
    store: Arc<dyn Backend<V>>,
    owner: Owner,
    lease: Duration,
    begun: Option<Arc<Begun<V>>>,
) -> Answer<Standing> {
    match store.clone().begin_renew(owner.clone(), lease).await {
        Err(error) if error.is_fenced() => {}
        renewed => return renewed.map(|()| Standing::Held),
    }
    // Read after the renewal, which may have waited for the end of the handler's transaction.
    if !begun.is_some_and(|begun| begun.has_begun()) {
        return Ok(Standing::Lost);
    }
    Ok(standing(store.begin_outcome(owner).await?))
}

/// Renews the claim of `owner` in a store that answers without waiting.
fn renew_now<V>(
    store: &dyn Immediate<V>,
    owner: &Owner,
    lease: Duration,
    begun: Option<&Arc<Begun<V>>>,
) -> Answer<Standing> {
    match store.renew_claim_now(owner.claim(), lease) {
        Err(error) if error.is_fenced() => {}
        renewed => return renewed.map(|()| Standing::Held),
    }
    if !begun.is_some_and(|begun| begun.has_begun()) {
        return Ok(Standing::Lost);
    }
    Ok(standing(store.outcome_now(owner.claim())?))
}

fn standing<V>(outcome: Option<V>) -> Standing {
    if outcome.is_some() { Standing::Completed } else { Standing::Lost }
}
