//! A token bucket in one atomic word.

use super::plan::{Plan, Taken, WORDS};
use super::{Receipt, Short};
use crate::sync::seqlock::SeqLock;
use crate::sync::{AtomicU64, Ordering};

/// Flag: a call waits in the queue, and newcomers must not overtake it.
const WAITING: u64 = 1;
/// A flag that flips with every change of the plan, in step with the version of the plan. A decision
/// under the old plan therefore cannot be stored.
const EPOCH: u64 = 2;
/// Flag: the last call left less than one token. While it is clear, one token is surely available,
/// because a bucket only fills with time. A check before a call then reads no clock.
const LOW: u64 = 4;
/// The rest of the word is the spent position.
const SHIFT: u32 = 3;

#[derive(Debug)]
pub(crate) struct Bucket {
    plan: SeqLock<WORDS>,
    word: AtomicU64,
}

impl Taken {
    #[inline(always)]
    fn word(self) -> u64 {
        self.spent << SHIFT | if self.low { LOW } else { 0 }
    }
}

impl Bucket {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan: SeqLock::new(plan.to_words()), word: AtomicU64::new(0) }
    }

    /// Takes `cost` at `now`, unless a call waits.
    #[inline(always)]
    pub(crate) fn spend(&self, cost: u32, now: u64) -> Result<(), Short> {
        if let Some((words, word)) = self.quick() {
            let spent = word >> SHIFT;
            let taken = match Plan::from_first_words(words) {
                Some(even) => Some(even.take(spent, cost, now)?),
                None => Plan::take_by_first_words(words, spent, cost, now),
            };
            if let Some(taken) = taken {
                if self.replace(word, taken.word() | word & EPOCH) {
                    return Ok(());
                }
            }
        }
        self.try_take(cost, now).map(drop)
    }

    /// Takes `cost` at `now`, unless a waiter is in the queue.
    #[inline(never)]
    pub(crate) fn try_take(&self, cost: u32, now: u64) -> Result<Receipt, Short> {
        self.take(WAITING, |plan, spent| plan.take(spent, cost, now))
    }

    /// Takes `cost` for the head of the queue, as of the first moment from `since` to `until` at
    /// which there is enough. Tokens that came after `since` have not overflowed: they were due to
    /// the waiters.
    pub(crate) fn take_due(&self, cost: u32, since: u64, until: u64) -> Result<Receipt, Short> {
        self.take(0, |plan, spent| plan.take_due(spent, cost, since, until))
    }

    /// Takes the tokens with `take`, unless one of the bits of `not` is set.
    #[inline(always)]
    fn take(
        &self,
        not: u64,
        take: impl Fn(&Plan, u64) -> Result<Taken, Short>,
    ) -> Result<Receipt, Short> {
        loop {
            let (plan, version, word) = self.versioned();
            if word & not != 0 {
                return Err(Short::Behind);
            }
            let taken = take(&plan, word >> SHIFT)?;
            if self.replace(word, taken.word() | word & (WAITING | EPOCH)) {
                return Ok(Receipt { mark: taken.spent, version });
            }
        }
    }

    /// Returns how long until there is enough for `cost`. `None` if only the slow path can answer.
    #[inline(always)]
    pub(crate) fn quick_wait(&self, cost: u32, now: u64) -> Option<u64> {
        let (words, word) = self.quick()?;
        match Plan::from_first_words(words)?.take(word >> SHIFT, cost, now) {
            Err(Short::For(wait)) => Some(wait),
            _ => None,
        }
    }

    /// Returns the first words of the plan, and the word, with few instructions. `None` if the plan
    /// is being changed or a call waits.
    #[inline(always)]
    fn quick(&self) -> Option<([u64; 4], u64)> {
        // Without the bit of a change in progress: with it `is_still` fails below, and it
        // must not cancel the `WAITING` bit in the comparison.
        let version = self.plan.begin() & !1;
        let words = self.plan.first();
        let word = self.word.load(Ordering::Acquire);
        // One comparison checks two conditions: the same epoch, and no waiting call.
        let quiet = (word ^ version) & (EPOCH | WAITING) == 0 && self.plan.is_still(version);
        quiet.then_some((words, word))
    }

    /// Returns the error that a take of `cost` at `now` would return. Takes nothing.
    pub(crate) fn peek(&self, cost: u32, now: u64) -> Result<(), Short> {
        let (plan, word) = self.snapshot();
        if word & WAITING != 0 {
            return Err(Short::Behind);
        }
        plan.take(word >> SHIFT, cost, now).map(drop)
    }

    /// Returns `true` if one token is available at any current or later time. False negatives are
    /// possible.
    #[inline]
    pub(crate) fn surely_has_one(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (LOW | WAITING) == 0
    }

    pub(crate) fn wait_for(&self, ahead: u64, cost: u32, now: u64) -> Option<u64> {
        let (plan, word) = self.snapshot();
        plan.wait_for(word >> SHIFT, ahead, cost, now)
    }

    /// Returns tokens to the bucket, unless the plan has changed since they were taken.
    pub(crate) fn refund(&self, cost: u32, receipt: Receipt, now: u64) {
        loop {
            let (plan, version, word) = self.versioned();
            if version != receipt.version {
                return;
            }
            let spent = plan.refund(word >> SHIFT, cost, receipt.mark, now);
            // LOW may stay set although a token is available again. That only costs a clock read.
            if self.replace(word, spent << SHIFT | word & ((1 << SHIFT) - 1)) {
                return;
            }
        }
    }

    pub(crate) fn available(&self, now: u64) -> u32 {
        let (plan, word) = self.snapshot();
        plan.tokens(word >> SHIFT, now)
    }

    pub(crate) fn full_in(&self, now: u64) -> u64 {
        let (plan, word) = self.snapshot();
        plan.full_in(word >> SHIFT, now)
    }

    pub(crate) fn max_tokens(&self) -> u32 {
        Plan::from_words(self.plan.read().0).max_tokens()
    }

    /// Changes the plan and keeps the level. The caller serializes the changes.
    pub(crate) fn apply(&self, plan: Plan, now: u64) {
        let old = Plan::from_words(self.plan.read().0);
        self.plan.write(plan.to_words(), || {
            let mut word = self.word.load(Ordering::Relaxed);
            loop {
                let spent = plan.carry(&old, word >> SHIFT, now);
                let next = spent << SHIFT | (word & (WAITING | EPOCH) ^ EPOCH) | LOW;
                match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(changed) => word = changed,
                }
            }
        });
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        if waiting {
            self.word.fetch_or(WAITING, Ordering::AcqRel);
        } else {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }

    /// Returns a plan and a word that belong together. The caller may replace the word only if it
    /// is still the same. The word changes with every plan. Two changes of the plan between load
    /// and store that end on the same number remain undetected, and misprice one call.
    fn snapshot(&self) -> (Plan, u64) {
        let (plan, _, word) = self.versioned();
        (plan, word)
    }

    #[inline]
    fn versioned(&self) -> (Plan, u64, u64) {
        loop {
            let (words, version) = self.plan.read();
            // Acquire: a word of a new epoch was stored while the sequence was odd. A thread that
            // sees this word waits for the new plan in its next read.
            let word = self.word.load(Ordering::Acquire);
            if (word & EPOCH != 0) == (version % 2 == 1) {
                return (Plan::from_words(words), version, word);
            }
            crate::sync::spin_loop();
        }
    }

    #[inline]
    fn replace(&self, word: u64, next: u64) -> bool {
        self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "bucket/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "bucket/loom_tests.rs"]
mod loom_tests;
