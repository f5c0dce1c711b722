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
/// The shortest wait after a purge that found less than a batch.
const PURGE_SOON: Duration = Duration::from_secs(1);

/// A purge in progress.
pub(super) type Purge = Pin<Box<dyn Future<Output = Result<usize, StoreError>> + Send>>;

impl<St: Store, P, C> Running<St, P, C> {
    /// Begins a purge when it is due.
    pub(super) fn purge(&mut self) {
        if self.purge.is_some() || self.now() < self.next_purge {
            return;
        }
        let (config, patience) = (&self.relay.config, self.patience());
        let (age, batch, clock) = (config.keep_delivered, config.purge_batch, config.clock.clone());
        let store = self.relay.store.clone();
        self.purge = Some(Box::pin(async move {
            let purging = store.purge_delivered(age, batch);
            bounded(&clock, patience, "purging delivered messages", purging).await
        }));
    }

    /// Takes in the end of a purge, and returns whether there was one. After a full batch the next
    /// purge follows immediately, so that purges keep up with deliveries at any rate.
    pub(super) fn poll_purge(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(purge) = &mut self.purge else { return false };
        let Poll::Ready(purged) = purge.as_mut().poll(cx) else { return false };
        self.purge = None;
        let now = self.now();
        self.next_purge = match purged {
            Ok(purged) => {
                self.worked(Operation::Purge);
                self.idle_purges = if purged == 0 { self.idle_purges.saturating_add(1) } else { 0 };
                if purged >= self.relay.config.purge_batch {
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
