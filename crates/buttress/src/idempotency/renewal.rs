//! Renewing the claim of a handler that runs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::backend::Op;
use super::config::LostClaim;
use super::holding::Holding;
use super::owner::Owner;
use super::shared::Shared;
use crate::clock::{self, Sleep};
use crate::error::Error;
use crate::store_error::StoreError;

pin_project! {
    /// When a claim is renewed.
    pub(super) struct Renewal {
        #[pin]
        timer: Sleep,
        // Not to wait for the timer.
        due: bool,
        // The operation, and when it was begun.
        asking: Option<(Op<()>, Instant)>,
        // Somebody else has the key, and the handler runs on.
        pub(super) lost: bool,
    }
}

impl Renewal {
    /// Renews the claim when it is time. Ready if it was lost, with the refusal.
    #[inline(never)]
    pub(super) fn poll<V>(
        renewal: &mut Option<Pin<Box<Self>>>,
        since: Option<Instant>,
        holding: &mut Holding<V>,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        let renewal = match renewal {
            Some(renewal) => renewal,
            None => {
                let Some(made) = Self::begin(since, holding) else { return Poll::Pending };
                renewal.insert(made)
            }
        };
        let Some(shared) = holding.shared() else { return Poll::Pending };
        let mut this = renewal.as_mut().project();
        while !*this.lost {
            let (renewed, since) = match this.asking {
                Some((asking, since)) => {
                    let renewed = (ready!(asking.as_mut().poll(cx)), *since);
                    *this.asking = None;
                    renewed
                }
                None => {
                    if !std::mem::take(this.due) {
                        ready!(this.timer.as_mut().poll(cx));
                    }
                    let Owner { identity, claim, .. } = holding.owner();
                    let (lease, since) = (shared.config.lease, shared.now());
                    let Some(store) = shared.store.at_once() else {
                        let store = shared.store.clone();
                        let asking = store.begin_renew(identity.clone(), *claim, lease);
                        *this.asking = Some((asking, since));
                        continue;
                    };
                    (store.renew_now(&identity.key, *claim, lease), since)
                }
            };
            match next(shared, holding.owner(), since, renewed) {
                Ok(at) => this.timer.as_mut().reset(at),
                Err(error) => {
                    *this.lost = true;
                    if shared.config.lost_claim == LostClaim::Refuse {
                        return Poll::Ready(error);
                    }
                }
            }
        }
        Poll::Pending
    }
}

impl Renewal {
    /// The handler has to wait for the first time. A claim of which nobody knows how old it is, because
    /// a handler that answers at once needs no clock, is renewed now.
    fn begin<V>(since: Option<Instant>, holding: &mut Holding<V>) -> Option<Pin<Box<Self>>> {
        let now = since.or_else(|| holding.shared().map(|shared| shared.now()))?;
        holding.list(now);
        let config = &holding.shared()?.config;
        let timer = config.common.clock.sleep_until(clock::after(now, config.lease / 3));
        Some(Box::pin(Self { timer, due: since.is_none(), asking: None, lost: false }))
    }
}

/// When to renew again, after a renewal that was asked for at `since`.
fn next<V>(
    shared: &Shared<V>,
    owner: &Owner,
    since: Instant,
    renewed: Result<(), StoreError>,
) -> Result<Instant, Error> {
    let third = shared.config.lease / 3;
    match renewed {
        Ok(()) => {
            let until = clock::after(since, shared.config.lease);
            shared.lines.renewed(owner, until);
            Ok(clock::after(since, third))
        }
        Err(error) if error.is_fenced() => {
            shared.lines.left(owner);
            Err(shared.fenced())
        }
        Err(error) => {
            shared.store_failed("renew", &error);
            Ok(clock::after(shared.now(), third.min(shared.config.poll_interval)))
        }
    }
}
