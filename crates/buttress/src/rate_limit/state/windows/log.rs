//! The log of a window: which takes count against the limit, and until when.

use std::collections::VecDeque;

use crate::rate_limit::state::Short;

#[derive(Debug)]
pub(super) struct Log {
    /// `true` if windows begin at multiples of the period, `false` if they slide.
    fixed: bool,
    limit: u32,
    period: u64,
    /// The takes that count, in the order of their time. Each entry expires one period after its
    /// time.
    entries: VecDeque<Entry>,
    /// The sum of all entries.
    used: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The time of the take. With fixed windows, the begin of its window.
    at: u64,
    spent: u32,
    /// The tokens that a larger limit added, and that cannot be taken yet.
    withheld: u32,
}

impl Entry {
    fn count(&self) -> u64 {
        u64::from(self.spent) + u64::from(self.withheld)
    }
}

impl Log {
    pub(super) fn new(fixed: bool, limit: u32, period: u64) -> Self {
        Self { fixed, limit, period: period.max(1), entries: VecDeque::new(), used: 0 }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes `cost` as of the first moment from `since` to `until` at which there is enough, and returns
    /// the mark of its entry.
    pub(super) fn take(&mut self, cost: u32, since: u64, until: u64) -> Result<u64, Short> {
        let at = since.saturating_add(self.due(cost, since)?);
        if at > until {
            return Err(Short::For(at - until));
        }
        self.expire(at);
        if cost == 0 {
            return Ok(0);
        }
        Ok(self.note(at, cost, 0))
    }

    /// Returns the nanoseconds from `now` until there is enough for `cost`.
    pub(super) fn due(&self, cost: u32, now: u64) -> Result<u64, Short> {
        if cost > self.limit {
            return Err(Short::Never);
        }
        let (expired, used) = self.live(now);
        let excess = (used + u64::from(cost)).saturating_sub(self.limit.into());
        Ok(self.until_free(expired, excess, now))
    }

    /// Returns the nanoseconds from `now` until there is enough for `cost`, after other calls have
    /// taken `ahead` as early as possible.
    pub(super) fn wait_for(&self, ahead: u64, cost: u32, now: u64) -> Option<u64> {
        if cost > self.limit {
            return None;
        }
        let (expired, used) = self.live(now);
        let limit = u64::from(self.limit);
        let excess = (used + ahead + u64::from(cost)).saturating_sub(limit);
        if excess <= used {
            return Some(self.until_free(expired, excess, now));
        }
        // Everything that counts now has expired and was taken again. The last `limit` entries
        // expire in the same order in each later period, after the tokens that are free now.
        let beyond = excess - used - 1;
        let idle = limit.saturating_sub(used);
        let (turn, rounds) = ((beyond + limit - idle) % limit, (beyond + limit - idle) / limit);
        let first = if turn < limit - idle {
            self.until_free(expired, used.saturating_sub(limit) + turn + 1, now)
        } else if self.fixed {
            self.period - now % self.period
        } else {
            self.period
        };
        Some(first.saturating_add(self.period.saturating_mul(rounds)))
    }

    /// Removes `cost` from the entry with this mark, unless the entry has expired.
    pub(super) fn refund(&mut self, cost: u32, mark: u64) {
        let Ok(place) = self.entries.binary_search_by_key(&mark, |entry| entry.at) else { return };
        let Some(entry) = self.entries.get_mut(place) else { return };
        let given = cost.min(entry.spent);
        entry.spent -= given;
        self.used -= u64::from(given);
        if entry.count() == 0 {
            self.entries.remove(place);
        }
    }

    pub(super) fn available(&self, now: u64) -> u32 {
        // At most the limit, which is an `u32`.
        u64::from(self.limit).saturating_sub(self.live(now).1) as u32
    }

    /// Returns the nanoseconds from `now` until no entry counts any more.
    pub(super) fn full_in(&self, now: u64) -> u64 {
        let (expired, used) = self.live(now);
        self.until_free(expired, used, now)
    }

    /// Changes the limit. Added tokens cannot be taken before tokens taken at `now` would be free
    /// again.
    pub(super) fn set_limit(&mut self, limit: u32, now: u64) {
        if limit > self.limit {
            self.expire(now);
            self.note(now, 0, limit - self.limit);
        } else {
            self.release(self.limit - limit);
        }
        self.limit = limit;
    }

    /// Takes up to `removed` from the withheld tokens, the latest first.
    fn release(&mut self, mut removed: u32) {
        for entry in self.entries.iter_mut().rev() {
            let taken = removed.min(entry.withheld);
            entry.withheld -= taken;
            self.used -= u64::from(taken);
            removed -= taken;
        }
        self.entries.retain(|entry| entry.count() > 0);
    }

    /// Changes the period. Entries that count at `now` still count after the change. Returns `true`
    /// if the marks of entries changed.
    pub(super) fn set_period(&mut self, period: u64, now: u64) -> bool {
        let (old, period) = (self.period, period.max(1));
        if period == old {
            return false;
        }
        self.expire(now);
        self.period = period;
        let mut entries: Vec<_> = self.entries.drain(..).collect();
        for entry in &mut entries {
            if self.fixed {
                // The entry ends with the new window.
                entry.at = now - now % period;
            } else if entry.at.saturating_add(period) <= now {
                // The entry ends by the old period, or as if it were taken now, whichever is
                // sooner.
                let end = entry.at.saturating_add(old).min(now.saturating_add(period));
                entry.at = end.saturating_sub(period);
            }
        }
        entries.sort_by_key(|entry| entry.at);
        for entry in entries {
            match self.entries.back_mut() {
                Some(last) if last.at == entry.at => {
                    last.spent += entry.spent;
                    last.withheld += entry.withheld;
                }
                _ => self.entries.push_back(entry),
            }
        }
        true
    }

    /// Records tokens that are taken or withheld at `now`. Returns the mark of the entry.
    fn note(&mut self, now: u64, spent: u32, withheld: u32) -> u64 {
        let at = if self.fixed { now - now % self.period } else { now };
        let entry = Entry { at, spent, withheld };
        self.used += entry.count();
        match self.entries.back_mut() {
            // Also if the clock went back: the log stays in order.
            Some(last) if last.at >= at => {
                last.spent += spent;
                last.withheld += withheld;
                last.at
            }
            _ => {
                self.entries.push_back(entry);
                at
            }
        }
    }

    /// Returns how many entries have expired at `now`, and the sum of the other entries.
    fn live(&self, now: u64) -> (usize, u64) {
        let (mut expired, mut used) = (0, self.used);
        for entry in &self.entries {
            if entry.at.saturating_add(self.period) > now {
                break;
            }
            expired += 1;
            used -= entry.count();
        }
        (expired, used)
    }

    /// Removes entries that are at least one period old.
    fn expire(&mut self, now: u64) {
        let (expired, used) = self.live(now);
        self.entries.drain(..expired);
        self.used = used;
    }

    /// Returns the nanoseconds from `now` until `excess` tokens of the entries after the first
    /// `expired` ones have expired.
    fn until_free(&self, expired: usize, excess: u64, now: u64) -> u64 {
        let mut freed = 0;
        for entry in self.entries.iter().skip(expired) {
            if freed >= excess {
                break;
            }
            freed += entry.count();
            if freed >= excess {
                return entry.at.saturating_add(self.period).saturating_sub(now);
            }
        }
        0
    }
}
