//! The window policies: fixed windows, and an exact sliding log.

mod log;

use super::{Receipt, Short};
use crate::rate_limit::config::{Config, Policy};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::vocabulary::clock;
use log::Log;

/// Calls counted in windows of time, behind a short lock.
#[derive(Debug)]
pub(crate) struct Windows {
    policy: Policy,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    waiting: bool,
    /// Changes when old receipts become invalid.
    version: u64,
    log: Log,
}

impl Windows {
    pub(crate) fn new(config: &Config) -> Self {
        let fixed = config.policy == Policy::FixedWindow;
        let log = Log::new(fixed, config.max_tokens, clock::to_nanos(config.refill_period));
        let inner = Inner { waiting: false, version: 0, log };
        Self { policy: config.policy, inner: Mutex::new(inner) }
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn limit(&self) -> u32 {
        lock(&self.inner).log.limit()
    }

    /// Takes `cost` at `now`, unless a waiter is in the queue.
    #[inline(never)]
    pub(crate) fn try_take(&self, cost: u32, now: u64) -> Result<Receipt, Short> {
        self.unless_behind()?.take(cost, now, now)
    }

    /// Takes `cost` for the head of the queue, as of the first moment from `since` to `until` at
    /// which there is enough.
    pub(crate) fn take_due(&self, cost: u32, since: u64, until: u64) -> Result<Receipt, Short> {
        lock(&self.inner).take(cost, since, until)
    }

    fn unless_behind(&self) -> Result<MutexGuard<'_, Inner>, Short> {
        let inner = lock(&self.inner);
        if inner.waiting { Err(Short::Behind) } else { Ok(inner) }
    }

    pub(crate) fn peek(&self, cost: u32, now: u64) -> Result<(), Short> {
        match self.unless_behind()?.log.due(cost, now)? {
            0 => Ok(()),
            wait => Err(Short::For(wait)),
        }
    }

    pub(crate) fn wait_for(&self, ahead: u64, cost: u32, now: u64) -> Option<u64> {
        lock(&self.inner).log.wait_for(ahead, cost, now)
    }

    /// Removes `cost` from the entry that counts it, unless the entry has expired.
    pub(crate) fn refund(&self, cost: u32, receipt: Receipt) {
        let mut inner = lock(&self.inner);
        if receipt.version == inner.version {
            inner.log.refund(cost, receipt.mark);
        }
    }

    pub(crate) fn available(&self, now: u64) -> u32 {
        lock(&self.inner).log.available(now)
    }

    pub(crate) fn full_in(&self, now: u64) -> u64 {
        lock(&self.inner).log.full_in(now)
    }

    /// Changes limit and period. Tokens that are used up at `now` stay used up.
    pub(crate) fn apply(&self, config: &Config, now: u64) {
        let mut inner = lock(&self.inner);
        if inner.log.set_period(clock::to_nanos(config.refill_period), now) {
            inner.version += 1;
        }
        inner.log.set_limit(config.max_tokens, now);
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        lock(&self.inner).waiting = waiting;
    }
}

impl Inner {
    fn take(&mut self, cost: u32, since: u64, until: u64) -> Result<Receipt, Short> {
        let mark = self.log.take(cost, since, until)?;
        Ok(Receipt { mark, version: self.version })
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "windows/tests.rs"]
mod tests;
