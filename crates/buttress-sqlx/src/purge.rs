//! Purges in batches, so that other transactions do not wait long.

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
