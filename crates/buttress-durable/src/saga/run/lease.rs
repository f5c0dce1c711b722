//! [`Lease`]: that this worker is alive, as far as it knows itself.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use buttress::{Clock, Format, StoreError};
use tokio::sync::{Notify, OnceCell};

use crate::instant;
use crate::saga::run::bounded::bounded;
use crate::saga::run::purging;
use crate::saga::run::shared::Core;
use crate::saga::run::troubles::Operation;
use crate::saga::store::{Store, WorkerId};

#[cfg(test)]
mod tests;

/// What a worker knows of its lease. Pure.
///
/// A lease has *terms*. A renewal whose answer comes before the end of the lease continues the term. A renewal
/// whose answer comes later begins the next term: another worker may have taken sagas over in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) struct Tenure {
    until: Instant,
    term: u64,
}

impl Tenure {
    /// No lease yet.
    pub(in crate::saga) const fn none(now: Instant) -> Self {
        Self { until: now, term: 0 }
    }

    /// After a renewal by `length`, which this worker asked for at `asked` and whose answer came at `now`. The
    /// lease ends earlier here than in the store: it counts from before the store was asked.
    pub(in crate::saga) fn renewed(self, asked: Instant, now: Instant, length: Duration) -> Self {
        let term = if now < self.until { self.term } else { self.term + 1 };
        Self { until: self.until.max(instant::after(asked, length)), term }
    }

    /// The present term; `None` if the lease has run out.
    pub(in crate::saga) fn term(self, now: Instant) -> Option<u64> {
        (now < self.until).then_some(self.term)
    }
}

/// How long this worker may start steps.
#[derive(Debug)]
pub(in crate::saga) struct Lease {
    pub(in crate::saga) worker: WorkerId,
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

/// That the lease has not lapsed since the permit was taken. What the store confirmed under it may leave while
/// it stands; what was confirmed before a lapse must be confirmed again.
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

    /// Whether steps may be started now, if the store confirms it.
    pub(in crate::saga) fn is_live(&self) -> bool {
        self.known.term().is_some()
    }

    /// A permit for what the store is about to be asked.
    pub(in crate::saga) fn permit(&self) -> Permit {
        Permit { known: self.known.clone(), term: self.known.term() }
    }

    /// Waits until steps may be started.
    pub(in crate::saga) async fn live(&self) {
        loop {
            let renewed = self.renewed.notified();
            if self.is_live() {
                return;
            }
            renewed.await;
        }
    }

    /// An answer that does not come in half a lease is given up: the next one may still be in time.
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

/// Takes the lease, once, and keeps it as long as the executor or one of its sagas lives.
pub(in crate::saga) async fn begin<I, F, St>(
    core: &std::sync::Arc<Core<I, F, St>>,
) -> Result<(), StoreError>
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    let begin = || async {
        core.lease.renew(&core.store).await?;
        let (core, clock) = (std::sync::Arc::downgrade(core), core.config.clock.clone());
        if let Some(alive) = core.upgrade() {
            if let Some(retention) = alive.config.retention {
                alive.config.spawner.spawn(purging::keep(core.clone(), clock.clone(), retention));
            }
            alive.config.spawner.spawn(keep(core, clock));
        }
        Ok(())
    };
    core.lease.begun.get_or_try_init(begin).await.copied()
}

/// As [`begin`]; and renews a lease that has run out while this worker stood still. Its own sagas would be
/// free to be taken over, by itself too.
pub(in crate::saga) async fn begin_live<I, F, St>(
    core: &std::sync::Arc<Core<I, F, St>>,
) -> Result<(), StoreError>
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    begin(core).await?;
    match core.lease.is_live() {
        true => Ok(()),
        false => core.lease.renew(&core.store).await,
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
                // Sooner than otherwise, and ever later in a long outage.
                let soon = (length / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
                core.store_failed(Operation::Renew, &error, soon)
            }
        };
    }
}
