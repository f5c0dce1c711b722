//! [`Lease`]: that this worker is alive, as far as it knows itself.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use buttress::{Clock, Format, StoreError};
use tokio::sync::{Notify, OnceCell};

use super::shared::Core;
use super::store::{Store, WorkerId};
use crate::instant;

/// How long this worker may start steps. It ends earlier here than in the store: it is counted from
/// before the store was asked.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    length: Duration,
    clock: Clock,
    anchor: Instant,
    /// Its end, in nanoseconds since the anchor. A lone value: whoever reads it acts on nothing else.
    until: AtomicU64,
    renewed: Notify,
    begun: OnceCell<()>,
}

impl Lease {
    pub(super) fn new(worker: WorkerId, length: Duration, clock: Clock) -> Self {
        let anchor = clock.now();
        Self {
            worker,
            length,
            clock,
            anchor,
            until: AtomicU64::new(0),
            renewed: Notify::new(),
            begun: OnceCell::new(),
        }
    }

    /// Whether steps may be started now.
    pub(super) fn is_live(&self) -> bool {
        let now = instant::nanos_since(self.anchor, self.clock.now());
        now < self.until.load(Ordering::Relaxed)
    }

    /// Waits until steps may be started.
    pub(super) async fn live(&self) {
        loop {
            let renewed = self.renewed.notified();
            if self.is_live() {
                return;
            }
            renewed.await;
        }
    }

    async fn renew<P>(&self, store: &impl Store<P>) -> Result<(), StoreError> {
        let before = self.clock.now();
        store.renew(self.worker, self.length).await?;
        let until = instant::nanos_since(self.anchor, instant::after(before, self.length));
        self.until.fetch_max(until, Ordering::Relaxed);
        self.renewed.notify_waiters();
        Ok(())
    }
}

/// Takes the lease, once, and keeps it as long as the executor or one of its sagas lives.
pub(super) async fn begin<I, F, St>(core: &std::sync::Arc<Core<I, F, St>>) -> Result<(), StoreError>
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    let begin = || async {
        core.lease.renew(&core.store).await?;
        let (core, clock) = (std::sync::Arc::downgrade(core), core.config.clock.clone());
        if let Some(alive) = core.upgrade() {
            alive.config.spawner.spawn(keep(core, clock));
        }
        Ok(())
    };
    core.lease.begun.get_or_try_init(begin).await.copied()
}

/// As [`begin`]; and renews a lease that has run out while this worker stood still. Its own sagas would be
/// free to be taken over, by itself too.
pub(super) async fn begin_live<I, F, St>(
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
    let mut failed = 0;
    let Some(mut wait) = core.upgrade().map(|core| core.lease.length / 3) else { return };
    loop {
        clock.sleep(wait).await;
        let Some(core) = core.upgrade() else { return };
        if core.has_shut_down() {
            return;
        }
        let length = core.lease.length;
        match core.lease.renew(&core.store).await {
            Ok(()) => (failed, wait) = (0, length / 3),
            Err(error) => {
                // Sooner than otherwise, but never so soon that a store that is away is hammered.
                let soon = (length / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
                (failed, wait) = (failed + 1, soon);
                tracing::warn!(
                    target: "buttress", layer = core.config.name.as_str(), %error, failed, "lease not renewed"
                );
            }
        }
    }
}
