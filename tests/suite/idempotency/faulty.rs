//! A slow store that fails on request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::idempotency::{
    Claimed, CompleteIn, Completion, Immediate, KeyClaim, MemoryStore, MemoryTransaction, Store,
};
use buttress::{Answer, Clock, StoreError, StoreErrorKind};

use crate::support::ms;

/// The behaviour of one operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// The operation takes this number of milliseconds, and its effect happens at the end.
    Slow(u64),
    /// The effect happens, and the answer takes this number of milliseconds.
    SlowReply(u64),
    /// The operation fails without an effect.
    Fails(StoreErrorKind),
    /// The effect happens, and the operation returns an error.
    LosesReply,
    /// The effect happens immediately, and the operation never ends.
    Hangs,
    /// The operation never ends, without an effect.
    HangsUndone,
}

/// A [`MemoryStore`] behind a simulated network.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    pub memory: MemoryStore<u32>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    plans: VecDeque<(&'static str, Plan)>,
    asked: Vec<&'static str>,
    /// The behaviour of operations without a plan.
    always: Vec<(&'static str, Plan)>,
}

impl Faulty {
    pub(super) fn over(memory: MemoryStore<u32>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Sets the behaviour of the next `operation` without a plan.
    pub(super) fn then(&self, operation: &'static str, plan: Plan) -> &Self {
        self.script.lock().unwrap().plans.push_back((operation, plan));
        self
    }

    /// Sets the behaviour of every `operation` without a plan from now on.
    pub(super) fn always(&self, operation: &'static str, plan: Plan) -> &Self {
        let always = &mut self.script.lock().unwrap().always;
        always.retain(|(planned, _)| *planned != operation);
        always.push((operation, plan));
        self
    }

    /// Returns the operations so far.
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
        act: impl FnOnce(&MemoryStore<u32>) -> Answer<T> + Send,
    ) -> Answer<T> {
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
                // The guard is not held across the wait, so the future need not be `Send` with it.
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
    async fn claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<Claimed<u32>> {
        self.run("claim", |store| store.claim_now(claim, lease)).await
    }

    async fn renew_claim(&self, claim: KeyClaim<'_>, lease: Duration) -> Answer<()> {
        self.run("renew", |store| store.renew_claim_now(claim, lease)).await
    }

    async fn complete(&self, claim: KeyClaim<'_>, value: u32, lifetime: Duration) -> Answer<()> {
        self.run("complete", |store| store.complete_now(claim, value, lifetime)).await
    }

    async fn release_claim(&self, claim: KeyClaim<'_>) -> Answer<()> {
        self.run("release", |store| store.release_claim_now(claim)).await
    }

    async fn outcome(&self, claim: KeyClaim<'_>) -> Answer<Option<u32>> {
        self.run("outcome", |store| store.outcome_now(claim)).await
    }

    async fn sweep_expired(&self, limit: usize) -> Answer<usize> {
        self.run("sweep", |store| store.sweep_expired_now(limit)).await
    }
}

impl CompleteIn<MemoryTransaction<u32>, u32> for Faulty {
    async fn complete_in(
        &self,
        tx: &mut MemoryTransaction<u32>,
        completion: Completion<'_, u32>,
    ) -> Answer<()> {
        match self.planned("complete in") {
            Plan::Hangs => {
                self.memory.complete_in(tx, completion).await?;
                std::future::pending().await
            }
            Plan::HangsUndone => std::future::pending().await,
            _ => self.memory.complete_in(tx, completion).await,
        }
    }
}
