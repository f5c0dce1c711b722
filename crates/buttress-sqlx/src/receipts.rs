//! The retention of receipts of the inbox and of records of the barrier, and the task that removes
//! old ones.

use std::future::Future;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, StoreError};

/// The default retention: 30 days.
pub(crate) const KEPT: Option<Duration> = Some(Duration::from_secs(30 * 24 * 3600));

/// The tables of the parts of this build, with their keys.
pub(crate) const TABLES: &[(&str, &str)] = &[
    #[cfg(feature = "outbox")]
    ("buttress_inbox", "consumer, message"),
    #[cfg(feature = "saga")]
    ("buttress_inbox_step", "saga, step"),
];

/// How many receipts one transaction removes, so that other transactions do not wait long.
const PURGE_BATCH: usize = 1000;
/// The wait after a purge that found none.
const IDLE: Duration = Duration::from_secs(60);
/// The wait after a purge that found some.
const BUSY: Duration = Duration::from_secs(1);

/// Refuses a retention below one second.
pub(crate) fn check(kept: Option<Duration>) -> Result<(), InvalidConfig> {
    match kept {
        Some(kept) if kept < Duration::from_secs(1) => {
            Err(InvalidConfig::new("keep-receipts", format!("{kept:?}"), "at least 1 second"))
        }
        _ => Ok(()),
    }
}

/// Implements the removal of old receipts over `purge_unbounded` of a store.
macro_rules! purging {
    ($store:ident) => {
        impl $store {
            /// Removes old receipts and records in the background, until the store is dropped.
            pub(super) fn keep_purging_receipts(&self) {
                let settings = &self.inner.config.settings;
                let Some(age) = settings.keep_receipts else { return };
                let weak = std::sync::Arc::downgrade(&self.inner);
                settings.spawner.spawn($crate::receipts::keep_purging(move |limit| {
                    let store = weak.upgrade().map(|inner| Self { inner });
                    async move { Some(store?.purge_old_receipts(age, limit).await) }
                }));
            }

            /// Removes up to `limit` receipts and records of the barrier, together, that were
            /// written at least `age` ago. Takes up to the operation timeout.
            pub(super) async fn purge_old_receipts(
                &self,
                age: std::time::Duration,
                limit: usize,
            ) -> buttress_durable::Answer<usize> {
                self.bounded("purging receipts", self.purge_unbounded(age, limit)).await
            }
        }
    };
}
pub(crate) use purging;

/// Removes old receipts until `purge` returns `None`, because the store was dropped. After a full
/// batch the next one follows immediately, so that purges keep up with the receipts.
pub(crate) async fn keep_purging<F>(purge: impl Fn(usize) -> F + Send)
where
    F: Future<Output = Option<Result<usize, StoreError>>> + Send,
{
    let clock = Clock::default();
    let mut failing = false;
    clock.sleep(BUSY).await;
    loop {
        let wait = match purge(PURGE_BATCH).await {
            None => return,
            Some(Ok(removed)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("old records of the inbox and the barrier are removed again");
                }
                match removed {
                    PURGE_BATCH.. => Duration::ZERO,
                    1.. => BUSY,
                    0 => IDLE,
                }
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    if error.is_misconfigured() {
                        tracing::error!(%error, "old records of the inbox and the barrier cannot be removed");
                    } else {
                        tracing::warn!(%error, "old records of the inbox and the barrier are not removed");
                    }
                }
                IDLE
            }
        };
        if wait.is_zero() {
            tokio::task::yield_now().await;
        } else {
            clock.sleep(wait).await;
        }
    }
}
