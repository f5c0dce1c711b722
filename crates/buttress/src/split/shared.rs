//! The state that the clones of a split share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::key::Salt;
use super::state::{Ramp, Side};
use crate::context;
use crate::machinery::counters::{Counters, counters};
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::share::Share;
use crate::sync::seqlock::SeqLock;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::vocabulary::clock;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::rng::Rng;

counters! {
    /// The counters of a split.
    pub(super) enum Counter {
        Old,
        New,
        Forced,
        FellBack,
    }
}

/// The share of the new side, which may change over time.
#[derive(Debug)]
pub(super) struct Course {
    /// The share, or [`RAMPING`]. Release when a ramp begins pairs with the Acquire of readers: a reader that sees the
    /// mark sees the ramp.
    word: AtomicU64,
    ramp: SeqLock<4>,
    writers: Mutex<()>,
}

/// The mark of a share that changes. No share has this word.
const RAMPING: u64 = u64::MAX;

impl Course {
    fn new(share: Share) -> Self {
        Self {
            word: AtomicU64::new(share.word()),
            ramp: SeqLock::new(Ramp::none(share).words()),
            writers: Mutex::new(()),
        }
    }

    /// Returns the share now. `now` is called only during a ramp.
    #[inline(always)]
    pub(super) fn share(&self, now: impl FnOnce() -> u64) -> Share {
        let word = self.word.load(Ordering::Acquire);
        if word == RAMPING { self.ramped(now()) } else { Share::of_word(word) }
    }

    #[cold]
    fn ramped(&self, now: u64) -> Share {
        let ramp = self.ramp();
        if ramp.is_over(now) {
            let _writer = lock(&self.writers);
            // Another ramp may have begun since.
            let ramp = self.ramp();
            if ramp.is_over(now) {
                self.word.store(ramp.to.word(), Ordering::Release);
            }
            return ramp.at(now);
        }
        ramp.at(now)
    }

    /// Returns the current ramp, or the last one.
    pub(super) fn ramp(&self) -> Ramp {
        Ramp::of_words(self.ramp.read().0)
    }

    /// Begins a ramp. `make` gets the share now.
    pub(super) fn begin(&self, now: u64, make: impl FnOnce(Share) -> Ramp) {
        let _writer = lock(&self.writers);
        let ramp = make(self.ramp().at(now));
        self.ramp.write(ramp.words(), || ());
        let word = if ramp.length == 0 { ramp.to.word() } else { RAMPING };
        self.word.store(word, Ordering::Release);
    }
}

/// The state that the clones of a split share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) course: Course,
    pub(super) salt: Salt,
    config: Config,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
    pub(super) rng: Rng,
    anchor: Instant,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        let share = config.check()?;
        Ok(Arc::new(Self {
            course: Course::new(share),
            salt: Salt::of(config.salt_text()),
            config: config.clone(),
            counters: Counters::new(),
            common: config.common.of(Pattern::Split),
            rng: config.rng.clone().unwrap_or_default(),
            anchor: config.common.clock.now(),
        }))
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        clock::nanos_since(self.anchor, self.common.clock.now())
    }

    #[inline(always)]
    pub(super) fn share(&self) -> Share {
        self.course.share(|| self.now())
    }

    /// Changes the share, evenly over `time`. `from` is the share at the beginning, or the current one.
    pub(super) fn change(&self, from: Option<Share>, to: Share, time: Duration) {
        let (begin, length) = (self.now(), clock::to_nanos(time));
        self.course.begin(begin, |present| Ramp {
            from: from.unwrap_or(present),
            to,
            begin,
            length,
        });
    }

    #[inline(always)]
    pub(super) fn count(&self, forced: Option<Side>, side: Side) {
        if !self.common.count_calls {
            return;
        }
        if forced.is_some() {
            self.counters.add(Counter::Forced);
        }
        self.counters.add(match side {
            Side::Old => Counter::Old,
            Side::New => Counter::New,
        });
    }

    /// Returns `true` if the deadline of the current context has passed.
    pub(super) fn is_overdue(&self) -> bool {
        context::deadline().is_some_and(|deadline| self.common.clock.now() >= deadline)
    }

    #[cold]
    pub(super) fn fell_back(&self) {
        self.counters.add(Counter::FellBack);
        self.common.fell_back_to_old();
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        // The exact share: a rounded one would be another target, and end a ramp when it is applied again.
        let share = self.course.ramp().to.to_config();
        Config { share, common: self.common.clone(), ..self.config.clone() }
    }

    fn accepts(old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()?;
        // A document without a salt keeps the salt in force.
        if new.salt.is_some() && new.salt_text() != old.salt_text() {
            let bound = format!("the salt of the running split, {:?}", old.salt_text());
            return Err(InvalidConfig::new("salt", format!("{:?}", new.salt_text()), bound));
        }
        Ok(())
    }

    fn apply(&self, config: &Config) {
        // A document that is applied again must not end a ramp to its share.
        let share = Share::of(config.share);
        if self.course.ramp().to != share {
            self.change(None, share, Duration::ZERO);
        }
    }

    fn common(&self) -> &Common {
        &self.common
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::beside;
    use loom::sync::Arc as LoomArc;

    #[test]
    fn loom_a_reader_sees_the_share_before_a_ramp_or_the_ramp() {
        loom::model(|| {
            let course = LoomArc::new(Course::new(Share::NONE));
            let operator = beside(&course, move |course| {
                let to = Share::ALL;
                course.begin(0, |from| Ramp { from, to, begin: 0, length: 4 });
            });
            let share = course.share(|| 2).as_f64();
            assert!(share == 0.0 || share == 0.5, "{share}");
            operator.join().unwrap();
            assert_eq!(course.share(|| 2).as_f64(), 0.5);
        });
    }

    #[test]
    fn loom_the_end_of_a_ramp_does_not_end_the_next_one() {
        loom::model(|| {
            let course = LoomArc::new(Course::new(Share::NONE));
            let ramp = |to, begin| move |from| Ramp { from, to, begin, length: 4 };
            course.begin(0, ramp(Share::ALL, 0));
            let reader = beside(&course, move |course| course.share(|| 4));
            course.begin(4, ramp(Share::NONE, 4));
            assert_eq!(reader.join().unwrap(), Share::ALL);
            assert_eq!(course.share(|| 6).as_f64(), 0.5);
            assert_eq!(course.share(|| 8), Share::NONE);
        });
    }
}
