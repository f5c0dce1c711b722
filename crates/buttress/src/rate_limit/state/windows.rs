//! The window policies: fixed, and an exact sliding log.

use std::collections::VecDeque;

use super::{Receipt, Short};
use crate::clock;
use crate::rate_limit::config::{Config, Policy};
use crate::sync::{Mutex, lock};

/// Calls counted in windows of time, behind a short lock.
#[derive(Debug)]
pub(crate) struct Windows {
    policy: Policy,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: u32,
    period: u64,
    waiting: bool,
    /// What counts against the limit now: when it was admitted, and how much. A fixed window keeps one
    /// entry, with the time its window began.
    log: VecDeque<(u64, u32)>,
    used: u32,
}

impl Windows {
    pub(crate) fn new(config: &Config) -> Self {
        let inner = Inner {
            limit: config.max_tokens,
            period: clock::to_nanos(config.refill_period),
            waiting: false,
            log: VecDeque::new(),
            used: 0,
        };
        Self { policy: config.policy, inner: Mutex::new(inner) }
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn limit(&self) -> u32 {
        lock(&self.inner).limit
    }

    #[inline(never)]
    pub(crate) fn try_take(&self, cost: u32, now: u64, queue: bool) -> Result<Receipt, Short> {
        let mut inner = lock(&self.inner);
        inner.may_take(cost, now, queue)?;
        if cost == 0 {
            return Ok(Receipt { mark: 0, version: 0 });
        }
        inner.used += cost;
        let at = if self.policy == Policy::FixedWindow { now - now % inner.period } else { now };
        let mark = match inner.log.back_mut() {
            // Also when the clock went back: the log stays in order.
            Some((last, count)) if *last >= at => {
                *count += cost;
                *last
            }
            _ => {
                inner.log.push_back((at, cost));
                at
            }
        };
        Ok(Receipt { mark, version: 0 })
    }

    pub(crate) fn peek(&self, now: u64) -> Result<(), Short> {
        lock(&self.inner).may_take(1, now, false)
    }

    pub(crate) fn wait_for(&self, ahead: u64, cost: u32, now: u64) -> Option<u64> {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        if cost > inner.limit {
            return None;
        }
        let wanted = u64::from(inner.used) + ahead + u64::from(cost);
        let excess = wanted.saturating_sub(inner.limit.into());
        if excess <= u64::from(inner.used) {
            return Some(inner.until_free(excess, now));
        }
        // Beyond what this window can free: so many whole windows after its last entry.
        let windows = (excess - u64::from(inner.used)).div_ceil(inner.limit.max(1).into());
        let last = inner.log.back().map_or(now, |(at, _)| *at);
        let after = inner.period.saturating_mul(windows.saturating_add(1));
        Some(last.saturating_add(after).saturating_sub(now))
    }

    /// Takes `cost` back from the entry it was counted in, if that has not expired.
    pub(crate) fn refund(&self, cost: u32, receipt: Receipt) {
        let mut inner = lock(&self.inner);
        let Ok(place) = inner.log.binary_search_by_key(&receipt.mark, |(at, _)| *at) else {
            return;
        };
        let Some((_, count)) = inner.log.get_mut(place) else { return };
        let given = cost.min(*count);
        *count -= given;
        let empty = *count == 0;
        inner.used -= given;
        if empty {
            inner.log.remove(place);
        }
    }

    pub(crate) fn available(&self, now: u64) -> u32 {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        inner.limit.saturating_sub(inner.used)
    }

    pub(crate) fn full_in(&self, now: u64) -> u64 {
        let mut inner = lock(&self.inner);
        inner.expire(now);
        inner.until_free(inner.used.into(), now)
    }

    pub(crate) fn apply(&self, config: &Config) {
        let mut inner = lock(&self.inner);
        inner.limit = config.max_tokens;
        inner.period = clock::to_nanos(config.refill_period);
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        lock(&self.inner).waiting = waiting;
    }
}

impl Inner {
    fn may_take(&mut self, cost: u32, now: u64, queue: bool) -> Result<(), Short> {
        if self.waiting && !queue {
            return Err(Short::Behind);
        }
        if cost > self.limit {
            return Err(Short::Never);
        }
        self.expire(now);
        let excess = (u64::from(self.used) + u64::from(cost)).saturating_sub(self.limit.into());
        if excess == 0 { Ok(()) } else { Err(Short::For(self.until_free(excess, now))) }
    }

    /// Forgets what lies a whole period back.
    fn expire(&mut self, now: u64) {
        while let Some(&(at, count)) = self.log.front() {
            if at.saturating_add(self.period) > now {
                break;
            }
            self.used -= count;
            self.log.pop_front();
        }
    }

    /// Nanoseconds until `excess` of what is used has expired. `excess` is at most what is used.
    fn until_free(&self, excess: u64, now: u64) -> u64 {
        let mut freed = 0u64;
        for &(at, count) in &self.log {
            if freed >= excess {
                break;
            }
            freed += u64::from(count);
            if freed >= excess {
                return at.saturating_add(self.period).saturating_sub(now);
            }
        }
        0
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const MS: u64 = 1_000_000;

    fn fixed(limit: u32, ms: u64) -> Windows {
        Windows::new(&Config::new().fixed_window(limit, Duration::from_millis(ms)))
    }

    fn sliding(limit: u32, ms: u64) -> Windows {
        Windows::new(&Config::new().sliding_window(limit, Duration::from_millis(ms)))
    }

    #[test]
    fn a_fixed_window_starts_over_at_its_border() {
        let windows = fixed(2, 100);
        windows.try_take(2, 90 * MS, false).unwrap();
        assert_eq!(windows.try_take(1, 99 * MS, false), Err(Short::For(MS)));
        windows.try_take(2, 100 * MS, false).unwrap();
        assert_eq!(windows.try_take(1, 100 * MS, false), Err(Short::For(100 * MS)));
    }

    #[test]
    fn a_sliding_window_frees_each_call_after_exactly_a_period() {
        let windows = sliding(2, 100);
        windows.try_take(1, 10 * MS, false).unwrap();
        windows.try_take(1, 60 * MS, false).unwrap();
        assert_eq!(windows.try_take(1, 100 * MS, false), Err(Short::For(10 * MS)));
        assert_eq!(windows.try_take(2, 100 * MS, false), Err(Short::For(60 * MS)));
        windows.try_take(1, 110 * MS, false).unwrap();
        assert_eq!(windows.try_take(1, 159 * MS, false), Err(Short::For(MS)));
        assert_eq!(windows.try_take(3, 159 * MS, false), Err(Short::Never));
    }

    #[test]
    fn a_refund_takes_back_its_own_and_only_while_it_counts() {
        // Found in review: the newest entry was taken back, whosever it was.
        let windows = sliding(2, 100);
        let first = windows.try_take(1, 0, false).unwrap();
        windows.try_take(1, 50 * MS, false).unwrap();
        windows.refund(1, first);
        assert_eq!(windows.available(60 * MS), 1);
        windows.try_take(1, 60 * MS, false).unwrap();
        assert_eq!(windows.available(100 * MS), 0, "two within 50 ms");
        windows.refund(1, first);
        assert_eq!(windows.available(100 * MS), 0, "there is nothing left of it");
    }

    #[test]
    fn waiting_behind_others_counts_whole_windows() {
        let windows = fixed(2, 100);
        windows.try_take(2, 0, false).unwrap();
        assert_eq!(windows.wait_for(0, 1, 0), Some(100 * MS));
        assert_eq!(windows.wait_for(2, 1, 0), Some(200 * MS));
        assert_eq!(windows.wait_for(0, 3, 0), None);
    }

    proptest! {
        /// Against the definition: count what was admitted in the last period.
        #[test]
        fn a_sliding_window_is_its_definition(
            limit in 1u32..6,
            steps in prop::collection::vec((0u64..60, 1u32..4), 1..80),
        ) {
            let windows = sliding(limit, 100);
            let (mut now, mut admitted) = (0u64, Vec::<(u64, u32)>::new());
            for (pause, cost) in steps {
                now += pause * MS;
                let recent: u32 = admitted
                    .iter()
                    .filter(|(at, _)| at + 100 * MS > now)
                    .map(|(_, cost)| cost)
                    .sum();
                prop_assert_eq!(windows.available(now), limit - recent);
                let fits = recent + cost <= limit;
                prop_assert_eq!(windows.try_take(cost, now, false).is_ok(), fits);
                if fits {
                    admitted.push((now, cost));
                }
            }
        }
    }
}
