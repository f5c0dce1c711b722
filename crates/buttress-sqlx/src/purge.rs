//! Purges in batches, so that other transactions do not wait long. Each part has the size of its batches beside its
//! statements, as `PURGE_BATCH`.

use std::future::Future;

use buttress::StoreError;

/// Removes up to `limit` rows, at most `batch` per call of `purge`, until a call removes less than a batch.
pub(crate) async fn in_batches<F>(
    limit: usize,
    batch: usize,
    purge: impl Fn(usize) -> F,
) -> Result<usize, StoreError>
where
    F: Future<Output = Result<usize, StoreError>>,
{
    let mut purged = 0;
    loop {
        let some = (limit - purged).min(batch);
        let done = purge(some).await?;
        purged += done;
        if done < some || purged >= limit {
            return Ok(purged);
        }
    }
}

/// The purge of [`saga::Store`](buttress_durable::saga::Store), over `purge_some` of a store.
#[cfg(feature = "saga")]
macro_rules! sagas {
    ($batch:ident) => {
        async fn purge_sagas(
            &self,
            name: Option<&str>,
            age: Duration,
            limit: usize,
        ) -> Answer<usize> {
            $crate::purge::in_batches(limit, $batch, |some| {
                self.bounded("purging sagas", self.purge_some(name, age, some))
            })
            .await
        }
    };
}
#[cfg(feature = "saga")]
pub(crate) use sagas;

/// The purges of [`outbox::Store`](buttress_durable::outbox::Store), over `purge_messages` and the
/// receipts of a store.
#[cfg(feature = "outbox")]
macro_rules! messages {
    ($batch:ident) => {
        async fn purge_receipts(&self, age: Duration, limit: usize) -> Answer<usize> {
            self.purge_old_receipts(age, limit).await
        }

        fn receipts_kept(&self) -> Option<Duration> {
            self.inner.config.settings.keep_receipts
        }

        async fn purge_delivered(&self, age: Duration, limit: usize) -> Answer<usize> {
            $crate::purge::in_batches(limit, $batch, |some| {
                self.bounded("purging messages", self.purge_messages(age, some))
            })
            .await
        }
    };
}
#[cfg(feature = "outbox")]
pub(crate) use messages;
