//! Removing old messages, concurrently with all other work.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Operation, Running};
use crate::bounded::bounded;
use crate::instant;
use crate::outbox::store::Store;
use buttress::StoreError;

/// The longest wait between two purges.
pub(super) const PURGE_EVERY: Duration = Duration::from_secs(60);
/// The shortest wait after a purge that found less than it asked for.
const PURGE_SOON: Duration = Duration::from_secs(1);
/// The size of the largest purge, in batches.
const MOST_BATCHES: usize = 8;

/// A purge in progress.
pub(super) type Purge = Pin<Box<dyn Future<Output = Result<usize, StoreError>> + Send>>;

impl<St: Store, P, C> Running<St, P, C> {
    /// Begins a purge when it is due.
    pub(super) fn purge(&mut self) {
        if self.purge.is_some() || self.now() < self.next_purge {
            return;
        }
        let (config, patience) = (&self.relay.config, self.patience());
        let (age, limit, clock) =
            (config.keep_delivered, self.purge_limit, config.common.clock.clone());
        let store = self.relay.store.clone();
        self.purge = Some(Box::pin(async move {
            let purging = store.purge_delivered(age, limit);
            bounded(&clock, patience, "purging delivered messages", purging).await
        }));
    }

    /// Takes in the end of a purge, and returns whether there was one. After a full purge the next
    /// one follows immediately, with a larger limit.
    pub(super) fn poll_purge(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(purge) = &mut self.purge else { return false };
        let Poll::Ready(purged) = purge.as_mut().poll(cx) else { return false };
        self.purge = None;
        let now = self.now();
        let (limit, batch) = (self.purge_limit, self.relay.config.purge_batch);
        self.purge_limit = batch;
        self.next_purge = match purged {
            Ok(purged) => {
                self.worked(Operation::Purge);
                self.idle_purges = if purged == 0 { self.idle_purges.saturating_add(1) } else { 0 };
                if purged >= limit {
                    self.purge_limit = after_full(limit, batch);
                    now
                } else {
                    let wait = PURGE_SOON.saturating_mul(1 << self.idle_purges.min(6));
                    instant::after(now, wait.min(PURGE_EVERY))
                }
            }
            Err(error) => self.failed(Operation::Purge, &error),
        };
        true
    }
}

/// Returns the limit of the purge that follows a full purge. A purge waits for its turn between
/// other transactions, so the rate of a constant limit would depend on their number.
fn after_full(limit: usize, batch: usize) -> usize {
    limit.saturating_mul(2).min(batch.saturating_mul(MOST_BATCHES))
}
