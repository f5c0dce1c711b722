//! [`Lease`]: the lease of this worker, as far as the worker knows.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use buttress::{Clock, Codec, Format, StoreError};
use tokio::sync::{Notify, OnceCell};

use crate::bounded::bounded;
use crate::instant;
use crate::saga::run::shared::Core;
use crate::saga::run::troubles::Operation;
use crate::saga::run::{purging, waking};
use crate::saga::store::{Store, WorkerId};

#[cfg(test)]
mod tests;

/// A worker's knowledge of its lease. Pure.
///
/// A lease has *terms*. A renewal whose answer comes before the end of the lease continues the term. A renewal
/// whose answer comes later begins the next term: another worker may have taken sagas over in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) struct Tenure {
    until: Instant,
    term: u64,
}

impl Tenure {
    /// Creates the state before the first renewal.
    pub(in crate::saga) const fn none(now: Instant) -> Self {
        Self { until: now, term: 0 }
    }

    /// Returns the state after a renewal by `length`. The worker asked at `asked`, and the answer
    /// came at `now`. The lease ends earlier here than in the store, because it counts from before
    /// the request.
    pub(in crate::saga) fn renewed(self, asked: Instant, now: Instant, length: Duration) -> Self {
        let term = if now < self.until { self.term } else { self.term + 1 };
        Self { until: self.until.max(instant::after(asked, length)), term }
    }

    /// Returns the current term; `None` if the lease has run out.
    pub(in crate::saga) fn term(self, now: Instant) -> Option<u64> {
        (now < self.until).then_some(self.term)
    }
}

/// The lease of this worker, under which it may start steps.
#[derive(Debug)]
pub(in crate::saga) struct Lease {
    pub worker: WorkerId,
    length: Duration,
    known: Arc<Known>,
    renewed: Notify,
    begun: OnceCell<()>,
}

#[derive(Debug)]
struct Known {
    clock: Clock,
    tenure: Mutex<Tenure>,
}

impl Known {
    fn term(&self) -> Option<u64> {
        let now = self.clock.now();
        self.tenure.lock().unwrap_or_else(PoisonError::into_inner).term(now)
    }
}

/// The proof that the lease has not lapsed since the permit was taken. A step that the store confirmed
/// under a permit may start while the permit is valid. After a lapse the store must confirm it
/// again.
#[derive(Clone, Debug)]
pub(in crate::saga) struct Permit {
    known: Arc<Known>,
    /// `None` if the lease had run out already.
    term: Option<u64>,
}

impl Permit {
    pub(in crate::saga) fn stands(&self) -> bool {
        self.term.is_some() && self.known.term() == self.term
    }
}

impl Lease {
    pub(in crate::saga) fn new(worker: WorkerId, length: Duration, clock: Clock) -> Self {
        let tenure = Mutex::new(Tenure::none(clock.now()));
        let known = Arc::new(Known { clock, tenure });
        Self { worker, length, known, renewed: Notify::new(), begun: OnceCell::new() }
    }

    /// Whether steps may start now, if the store confirms them.
    pub(in crate::saga) fn is_live(&self) -> bool {
        self.known.term().is_some()
    }

    /// Returns a permit for a request to the store.
    pub(in crate::saga) fn permit(&self) -> Permit {
        Permit { known: self.known.clone(), term: self.known.term() }
    }

    /// Waits until steps may start.
    pub(in crate::saga) async fn live(&self) {
        loop {
            let renewed = self.renewed.notified();
            if self.is_live() {
                return;
            }
            renewed.await;
        }
    }

    /// Renews the lease. Stops waiting after half a lease, because the next request may still be in
    /// time.
    async fn renew<P>(&self, store: &impl Store<P>) -> Result<(), StoreError> {
        let clock = &self.known.clock;
        let asked = clock.now();
        let renew = store.renew_worker(self.worker, self.length);
        bounded(clock, self.length / 2, "renewing a lease", renew).await?;
        let now = clock.now();
        {
            let mut tenure = self.known.tenure.lock().unwrap_or_else(PoisonError::into_inner);
            *tenure = tenure.renewed(asked, now, self.length);
        }
        self.renewed.notify_waiters();
        Ok(())
    }
}

impl<I, F, St> Core<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Takes the lease, once, and renews it while the executor or one of its sagas lives.
    pub(in crate::saga) async fn begin_lease(self: &Arc<Self>) -> Result<(), StoreError> {
        let begin = || async {
            self.lease.renew(&self.store).await?;
            let (core, clock) = (Arc::downgrade(self), self.config.common.clock.clone());
            if let Some(alive) = core.upgrade() {
                if let Some(retention) = alive.config.retention {
                    alive.config.common.spawner.spawn(purging::keep(
                        core.clone(),
                        clock.clone(),
                        retention,
                    ));
                }
                if alive.definition.inner.plan.has_waits {
                    alive.config.common.spawner.spawn(waking::keep(core.clone(), clock.clone()));
                }
                alive.config.common.spawner.spawn(keep(core, clock));
            }
            Ok(())
        };
        self.lease.begun.get_or_try_init(begin).await.copied()
    }

    /// Calls [`begin_lease`](Self::begin_lease), and renews a lease that has run out while this process was paused. Otherwise
    /// every worker could take over the sagas of this one.
    pub(in crate::saga) async fn begin_live_lease(self: &Arc<Self>) -> Result<(), StoreError> {
        self.begin_lease().await?;
        self.renew_lapsed_lease().await
    }

    /// Renews a lease that has run out.
    pub(in crate::saga) async fn renew_lapsed_lease(&self) -> Result<(), StoreError> {
        match self.lease.is_live() {
            true => Ok(()),
            false => self.lease.renew(&self.store).await,
        }
    }
}

async fn keep<I, F, St>(core: Weak<Core<I, F, St>>, clock: Clock)
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    let Some(mut wait) = core.upgrade().map(|core| core.lease.length / 3) else { return };
    loop {
        clock.sleep(wait).await;
        let Some(core) = core.upgrade() else { return };
        if core.has_shut_down() {
            return;
        }
        let length = core.lease.length;
        let renewed = core.lease.renew(&core.store).await;
        wait = match renewed {
            Ok(()) => {
                core.store_worked(Operation::Renew);
                length / 3
            }
            Err(error) => {
                // Sooner than after a success, with growing waits in a long outage.
                let soon = (length / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
                core.store_failed(Operation::Renew, &error, soon)
            }
        };
    }
}
