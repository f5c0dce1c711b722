//! Recovering repeatedly, in the background.

use std::sync::Arc;
use std::time::Duration;

use buttress::Codec;

use crate::instant;
use crate::saga::error::WithCauses;
use crate::saga::run::executor::Executor;
use crate::saga::run::transactional::LOOK_FOR_NEW;
use crate::saga::run::troubles::Operation;
use crate::saga::store::Store;

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Spawns a task that calls [`recover`](Self::recover) immediately and then every `interval`,
    /// at least every 1 ms.
    ///
    /// The sagas of a worker that crashed are then resumed here once its lease has run out. Between
    /// two recoveries the task looks every 500 ms for sagas that were
    /// [started in a transaction](Self::start_in) and that no worker has taken. The task ends when
    /// the executor is dropped or shut down.
    pub fn keep_recovering(&self, interval: Duration) {
        // An interval of zero would query the store all the time.
        let interval = interval.max(Duration::from_millis(1));
        let core = Arc::downgrade(&self.core);
        let clock = self.core.config.common.clock.clone();
        self.core.config.common.spawner.spawn(async move {
            loop {
                let wait = match core.upgrade().map(|core| Self { core }) {
                    Some(executor) if !executor.core.is_shutting_down() => {
                        executor.recover_and_log(interval).await
                    }
                    _ => return,
                };
                let next = instant::after(clock.now(), wait);
                loop {
                    let left = next.saturating_duration_since(clock.now());
                    clock.sleep(left.min(LOOK_FOR_NEW)).await;
                    if left <= LOOK_FOR_NEW {
                        break;
                    }
                    match core.upgrade().map(|core| Self { core }) {
                        Some(executor) if !executor.core.is_shutting_down() => {
                            executor.take_new().await;
                        }
                        _ => return,
                    }
                }
            }
        });
    }

    /// Recovers once, and logs failures. Returns the wait until the next recovery.
    async fn recover_and_log(&self, interval: Duration) -> Duration {
        let layer = self.core.config.layer().as_str();
        match self.recover().await {
            Ok(recovery) => {
                self.core.store_worked(Operation::Recover);
                for error in &recovery.left {
                    let error = WithCauses(error);
                    tracing::error!(target: "buttress", layer, %error, "the executor could not resume a saga");
                }
                interval
            }
            Err(error) => self.core.store_failed(Operation::Recover, &error, interval),
        }
    }
}
