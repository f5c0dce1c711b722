//! A store that has to be waited for, and that fails when it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Fingerprint, Immediate, Key, MemoryStore, MemoryTransaction,
    Store,
};
use buttress::{Clock, StoreError, StoreErrorKind};

use crate::support::ms;

/// What one operation does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// Takes so many milliseconds, and is done at their end.
    Slow(u64),
    /// Is done, and then takes so many milliseconds to say so.
    SlowReply(u64),
    /// Is not done.
    Fails(StoreErrorKind),
    /// Is done, and says that it was not.
    LosesReply,
    /// Never ends; done at once.
    Hangs,
    /// Never ends, and is not done.
    HangsUndone,
}

/// A [`MemoryStore`] behind a wire.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    pub(super) memory: MemoryStore<u32>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    plans: VecDeque<(&'static str, Plan)>,
    asked: Vec<&'static str>,
    /// What operations do that are not planned for.
    always: Vec<(&'static str, Plan)>,
}

impl Faulty {
    pub(super) fn over(memory: MemoryStore<u32>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// The next `operation` that is not planned for yet does `plan`.
    pub(super) fn then(&self, operation: &'static str, plan: Plan) -> &Self {
        self.script.lock().unwrap().plans.push_back((operation, plan));
        self
    }

    /// Every `operation` that is not planned for does `plan` from now on.
    pub(super) fn always(&self, operation: &'static str, plan: Plan) -> &Self {
        let always = &mut self.script.lock().unwrap().always;
        always.retain(|(planned, _)| *planned != operation);
        always.push((operation, plan));
        self
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        self.script.lock().unwrap().asked.clone()
    }

    pub(super) fn count(&self, operation: &str) -> usize {
        self.asked().iter().filter(|asked| **asked == operation).count()
    }

    fn plan(&self, operation: &'static str) -> Plan {
        self.script.lock().unwrap().asked.push(operation);
        self.planned(operation)
    }

    fn planned(&self, operation: &'static str) -> Plan {
        let mut script = self.script.lock().unwrap();
        let at = script.plans.iter().position(|(planned, _)| *planned == operation);
        let plan = at.and_then(|at| script.plans.remove(at));
        let always = || script.always.iter().find(|(planned, _)| *planned == operation).copied();
        plan.or_else(always).map_or(Plan::Slow(0), |(_, plan)| plan)
    }

    async fn run<T>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&MemoryStore<u32>) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let wait = |time: u64| async move {
            if time > 0 {
                Clock::default().sleep(ms(time)).await;
            }
        };
        match self.plan(operation) {
            Plan::Slow(time) => {
                wait(time).await;
                act(&self.memory)
            }
            Plan::SlowReply(time) => {
                let done = act(&self.memory);
                // Not held across the wait: what was done need not be sent anywhere.
                let done = Mutex::new(Some(done));
                wait(time).await;
                done.into_inner().unwrap().unwrap()
            }
            Plan::Fails(kind) => Err(StoreError::new(kind, operation)),
            Plan::LosesReply => {
                drop(act(&self.memory));
                Err(StoreError::transient(operation))
            }
            Plan::Hangs => {
                drop(act(&self.memory));
                std::future::pending().await
            }
            Plan::HangsUndone => std::future::pending().await,
        }
    }
}

impl Store<u32> for Faulty {
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<u32>, StoreError> {
        self.run("claim", |store| store.claim_now(key, claim, fingerprint, lease)).await
    }

    async fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        self.run("renew", |store| store.renew_claim_now(key, claim, lease)).await
    }

    async fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: u32,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.run("complete", |store| store.complete_now(key, claim, value, lifetime)).await
    }

    async fn release_claim(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        self.run("release", |store| store.release_claim_now(key, claim)).await
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<u32>, StoreError> {
        self.run("outcome", |store| store.outcome_now(key, claim)).await
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.run("sweep", |store| store.sweep_expired_now(limit)).await
    }
}

impl CompleteIn<MemoryTransaction<u32>, u32> for Faulty {
    async fn complete_in(
        &self,
        tx: &mut MemoryTransaction<u32>,
        key: &Key,
        claim: ClaimId,
        value: &u32,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        match self.planned("complete in") {
            Plan::Hangs => {
                self.memory.complete_in(tx, key, claim, value, lifetime).await?;
                std::future::pending().await
            }
            Plan::HangsUndone => std::future::pending().await,
            _ => self.memory.complete_in(tx, key, claim, value, lifetime).await,
        }
    }
}
