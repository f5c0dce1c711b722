//! Waking sagas that wait for a time or a signal.

use std::sync::Weak;
use std::time::Duration;

use buttress::{Clock, Codec, StoreError};

use crate::saga::error::WithCauses;
use crate::saga::model::entry::Entry;
use crate::saga::run::counters::Counter;
use crate::saga::run::executor::Executor;
use crate::saga::run::recovery::Recovery;
use crate::saga::run::shared::Core;
use crate::saga::run::troubles::Operation;
use crate::saga::store::{Record, Store, TakeOver};

/// How often an executor looks for sagas whose wait is over.
const LOOK_FOR_DUE: Duration = Duration::from_millis(500);

/// The wait until the next look while sagas that are due wait for room.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How many sagas an executor keeps ready for each one that may run.
const READY: usize = 4;

/// The rest of a wait that counts as none: a store may read its clock once for the entry, and once more for
/// the time at which the saga is due.
const AS_GOOD_AS_OVER: Duration = Duration::from_millis(1);

/// Wakes sagas until the executor is dropped or shut down.
pub(in crate::saga) async fn keep<I, F, St>(core: Weak<Core<I, F, St>>, clock: Clock)
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    let mut wait = LOOK_FOR_DUE;
    loop {
        clock.sleep(wait).await;
        let Some(core) = core.upgrade() else { return };
        if core.is_shutting_down() {
            return;
        }
        wait = Executor { core }.wake_and_log().await;
    }
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Wakes a saga that was cancelled or signalled during its wait, if this executor runs sagas.
    pub(in crate::saga) fn wake_soon(&self) {
        let core = &self.core;
        if core.definition.inner.plan.has_waits && core.lease.is_live() && !core.is_shutting_down()
        {
            let executor = self.clone();
            core.config.common.spawner.spawn(async move {
                // After a failure the next look finds the saga.
                executor.wake_and_log().await;
            });
        }
    }

    /// Wakes the sagas that are due, and logs failures. Returns the wait until the next look.
    async fn wake_and_log(&self) -> Duration {
        let core = &self.core;
        let layer = core.config.layer().as_str();
        match self.wake().await {
            Ok((recovery, all)) => {
                core.store_worked(Operation::Wake);
                for error in &recovery.left {
                    let error = WithCauses(error);
                    tracing::error!(target: "buttress", layer, %error, "the executor could not resume a saga");
                }
                if all { LOOK_FOR_DUE } else { LOOK_AGAIN }
            }
            Err(error) => core.store_failed(Operation::Wake, &error, LOOK_FOR_DUE),
        }
    }

    /// Wakes the sagas that are due. Returns whether none is left in the store.
    async fn wake(&self) -> Result<(Recovery, bool), StoreError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let (mut recovery, mut all) = (Recovery::default(), true);
        let asking = core.store.has_due(definition.name.as_str(), definition.version);
        if core.ask("looking for sagas whose wait is over", asking).await? {
            // Bounded as a whole, because several callers wait for each other.
            let alone = async { Ok(core.recovering.lock().await) };
            let _alone = core.ask("waiting for another recovery", alone).await?;
            core.ask("renewing a lease", core.renew_lapsed_lease()).await?;
            all = self.take_due(&mut recovery).await?;
        }
        Ok((recovery, all))
    }

    /// Takes the sagas that are due, as many as there is room for. The others stay in the store, for other workers too.
    /// Returns whether none is left. The caller has locked the recovery.
    pub(in crate::saga) async fn take_due(
        &self,
        recovery: &mut Recovery,
    ) -> Result<bool, StoreError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        if !definition.plan.has_waits {
            return Ok(true);
        }
        let version = (definition.name.as_str(), definition.version);
        let most = core.config.max_resumed.saturating_mul(READY);
        let room = || most.saturating_sub(core.resumed());
        self.take_pages(
            recovery,
            Counter::Woken,
            "taking sagas whose wait is over",
            room,
            |limit| core.store.take_due(TakeOver::new(core.lease.worker, version, limit)),
        )
        .await
    }

    /// Returns the first entry of a new owner for a step that waits for a time: the rest of the wait, or its end.
    pub(in crate::saga) fn wait_again(
        &self,
        record: &Record<F::Encoded>,
        step: u16,
        length: Duration,
    ) -> Entry<F::Encoded> {
        match self.left_of(record, step, length) {
            Duration::ZERO => Entry::WaitEnded { step },
            left => Entry::wait_started(step, left),
        }
    }

    /// Returns the rest of a wait when the store has handed the saga over.
    pub(in crate::saga) fn left_of(
        &self,
        record: &Record<F::Encoded>,
        step: u16,
        length: Duration,
    ) -> Duration {
        let own = |entry: &Entry<_>| entry.wait().is_some() && entry.step() == step;
        let began = record.entries.iter().rposition(own);
        let began = began.and_then(|at| record.times.get(at).copied().flatten());
        let now = record.taken_at.unwrap_or_else(|| self.core.config.common.clock.unix());
        // Later than it could be, never earlier: a wait without a known start begins again.
        let waited = began.map_or(Duration::ZERO, |began| now.saturating_sub(began));
        match length.saturating_sub(waited) {
            left if left < AS_GOOD_AS_OVER => Duration::ZERO,
            left => left,
        }
    }
}
