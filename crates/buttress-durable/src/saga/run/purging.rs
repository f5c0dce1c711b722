//! Removing sagas that ended long ago, in the background.

use std::sync::Weak;
use std::time::Duration;

use buttress::{Clock, Format};

use crate::causes::WithCauses;
use crate::saga::run::shared::Core;
use crate::saga::store::Store;

/// How many sagas one operation removes, so that other transactions do not wait long.
const BATCH: usize = 200;

/// Returns the wait after an operation that removed less than a batch.
fn interval(retention: Duration) -> Duration {
    (retention / 10).clamp(Duration::from_millis(100), Duration::from_secs(60))
}

/// Removes sagas that ended before the retention, until the executor is dropped. After a full batch
/// the next one follows after a pause as long as the operation took. So half of the time is left to
/// other transactions, and only the store limits the rate.
pub(in crate::saga) async fn keep<I, F, St>(
    core: Weak<Core<I, F, St>>,
    clock: Clock,
    retention: Duration,
) where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    let mut wait = interval(retention);
    loop {
        clock.sleep(wait).await;
        let Some(core) = core.upgrade() else { return };
        if core.is_shutting_down() {
            return;
        }
        let began = clock.now();
        let definition = core.definition.inner.name;
        let purging = core.store.purge_sagas(Some(definition.as_str()), retention, BATCH);
        wait = match core.ask("purging sagas", purging).await {
            Ok(purged) if purged >= BATCH => clock.now().saturating_duration_since(began),
            Ok(_) => interval(retention),
            Err(error) => {
                tracing::warn!(
                    target: "buttress", layer = core.config.layer().as_str(), error = %WithCauses(&error),
                    "the executor could not purge ended sagas"
                );
                interval(retention)
            }
        };
    }
}
