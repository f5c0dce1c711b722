//! The decision of a retry: whether another attempt follows, and after which wait.

use std::time::{Duration, Instant};

use super::config::Policy;
use crate::vocabulary::observe::GaveUp;
use crate::vocabulary::rng::Rng;

/// The facts about a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// `true` if the request can be sent again.
    pub is_repeatable: bool,
    /// How long the failure asks callers to wait.
    pub hint: Option<Duration>,
}

/// The attempts of one call until now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempts {
    made: u32,
    /// The last wait, for decorrelated jitter.
    previous: Duration,
    /// When the first attempt began. Read only if the total time counts.
    started: Option<Instant>,
    /// The deadline of the request.
    deadline: Option<Instant>,
}

impl Attempts {
    /// Begins with the first attempt.
    pub(super) fn begin(started: Option<Instant>, deadline: Option<Instant>) -> Self {
        Self { made: 1, previous: Duration::ZERO, started, deadline }
    }

    /// Returns the number of the current attempt. The first attempt is 1.
    pub(super) fn number(&self) -> u32 {
        self.made
    }

    /// Returns the wait before the next attempt, or the reason why no attempt follows the failed
    /// one.
    ///
    /// It checks in this order: attempts left, request repeatable, wait allowed, budget, copy of
    /// the request still valid. Each check runs only if the earlier ones allow a retry. The budget
    /// therefore pays for no retry that a rule forbids, and `commit` discards nothing that is
    /// needed.
    pub(super) fn decide(
        &mut self,
        policy: &Policy,
        failure: Failure,
        rng: &Rng,
        now: impl FnOnce() -> Instant,
        withdraw: impl FnOnce() -> bool,
        commit: impl FnOnce() -> bool,
    ) -> Result<Duration, GaveUp> {
        if policy.attempts > self.made && !failure.is_repeatable {
            return Err(GaveUp::Request);
        }
        let delay = self.next(policy, failure.hint, rng, now)?;
        if !withdraw() {
            return Err(GaveUp::Budget);
        }
        if !commit() {
            return Err(GaveUp::Request);
        }
        Ok(delay)
    }

    fn next(
        &mut self,
        policy: &Policy,
        hint: Option<Duration>,
        rng: &Rng,
        now: impl FnOnce() -> Instant,
    ) -> Result<Duration, GaveUp> {
        if self.made >= policy.attempts {
            return Err(GaveUp::Attempts);
        }
        let own = policy.backoff.delay(self.made - 1, self.previous, rng);
        let hint = hint.unwrap_or_default();
        if hint > policy.max_hint {
            return Err(GaveUp::LongHint);
        }
        let delay = own.max(hint);
        self.in_time(policy, delay, now)?;
        self.made += 1;
        self.previous = own;
        Ok(delay)
    }

    /// An attempt that would begin when the time is up is not worth the wait.
    fn in_time(
        &self,
        policy: &Policy,
        delay: Duration,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), GaveUp> {
        let total = policy.total_time.zip(self.started);
        if total.is_none() && self.deadline.is_none() {
            return Ok(());
        }
        let now = now();
        let is_late = |left: Duration| left <= delay;
        let left = total
            .map(|(total, started)| total.saturating_sub(now.saturating_duration_since(started)));
        if left.is_some_and(is_late) {
            return Err(GaveUp::TotalTime);
        }
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        if left.is_some_and(is_late) {
            return Err(GaveUp::Deadline);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::backoff::{Backoff, Jitter};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn policy() -> Policy {
        Policy {
            attempts: 4,
            backoff: Backoff::exponential(ms(100)).jitter(Jitter::None),
            total_time: None,
            max_hint: ms(60_000),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn waits_double_until_the_attempts_are_used() {
        let (rng, start) = (Rng::seeded(1), origin());
        let mut attempts = Attempts::begin(None, None);
        for wait in [100, 200, 400] {
            assert_eq!(attempts.next(&policy(), None, &rng, || start), Ok(ms(wait)));
        }
        assert_eq!(attempts.number(), 4);
        assert_eq!(attempts.next(&policy(), None, &rng, || start), Err(GaveUp::Attempts));
    }

    #[test]
    fn a_hint_is_a_floor_and_may_be_too_long() {
        let (rng, start) = (Rng::seeded(1), origin());
        let mut attempts = Attempts::begin(None, None);
        assert_eq!(attempts.next(&policy(), Some(ms(50)), &rng, || start), Ok(ms(100)));
        assert_eq!(attempts.next(&policy(), Some(ms(60_000)), &rng, || start), Ok(ms(60_000)));
        let long = attempts.next(&policy(), Some(ms(60_001)), &rng, || start);
        assert_eq!(long, Err(GaveUp::LongHint));
    }

    #[test]
    fn edge_1_8_no_attempt_begins_at_or_after_the_deadline() {
        let (rng, start) = (Rng::seeded(1), origin());
        let deadline = Some(start + ms(500));
        for (now, expected) in
            [(399, Ok(ms(100))), (400, Err(GaveUp::Deadline)), (900, Err(GaveUp::Deadline))]
        {
            let mut attempts = Attempts::begin(None, deadline);
            assert_eq!(attempts.next(&policy(), None, &rng, || start + ms(now)), expected);
        }
    }

    #[test]
    fn no_attempt_begins_at_or_after_the_total_time() {
        let (rng, start) = (Rng::seeded(1), origin());
        let policy = Policy { total_time: Some(ms(500)), ..policy() };
        for (used, expected) in [(399, Ok(ms(100))), (400, Err(GaveUp::TotalTime))] {
            let mut attempts = Attempts::begin(Some(start), None);
            assert_eq!(attempts.next(&policy, None, &rng, || start + ms(used)), expected);
        }
    }

    #[test]
    fn one_attempt_is_one_attempt() {
        let policy = Policy { attempts: 1, ..policy() };
        let next = Attempts::begin(None, None).next(&policy, None, &Rng::seeded(1), origin);
        assert_eq!(next, Err(GaveUp::Attempts));
    }

    /// Decides after a first attempt, with a budget and a copy of the request that answer as given.
    /// Returns the decision, and the checks that ran.
    fn decide(
        policy: &Policy,
        failure: Failure,
        pays: bool,
        good: bool,
    ) -> (Result<Duration, GaveUp>, Vec<&'static str>) {
        let asked = std::cell::RefCell::new(Vec::new());
        let start = origin();
        let answer = |question, answer| {
            asked.borrow_mut().push(question);
            answer
        };
        let decided = Attempts::begin(Some(start), None).decide(
            policy,
            failure,
            &Rng::seeded(1),
            || start + ms(10),
            || answer("budget", pays),
            || answer("copy", good),
        );
        (decided, asked.into_inner())
    }

    #[test]
    fn each_question_is_asked_only_if_the_earlier_ones_allow_a_retry() {
        let failure = Failure { is_repeatable: true, hint: None };
        let fixed = Failure { is_repeatable: false, hint: None };
        let long = Failure { is_repeatable: true, hint: Some(ms(60_001)) };
        let one = Policy { attempts: 1, ..policy() };
        let short = Policy { total_time: Some(ms(110)), ..policy() };
        let (none, budget, both) = (vec![], vec!["budget"], vec!["budget", "copy"]);
        for (policy, failure, pays, good, decided, asked) in [
            (one, failure, true, true, Err(GaveUp::Attempts), &none),
            // A request that cannot be sent again, at its last attempt: the reason is the number of
            // attempts.
            (one, fixed, true, true, Err(GaveUp::Attempts), &none),
            (policy(), fixed, true, true, Err(GaveUp::Request), &none),
            (policy(), long, true, true, Err(GaveUp::LongHint), &none),
            (short, failure, true, true, Err(GaveUp::TotalTime), &none),
            (policy(), failure, false, true, Err(GaveUp::Budget), &budget),
            (policy(), failure, true, false, Err(GaveUp::Request), &both),
            (policy(), failure, true, true, Ok(ms(100)), &both),
        ] {
            let case = format!("{policy:?}, {failure:?}, pays {pays}, good {good}");
            assert_eq!(decide(&policy, failure, pays, good), (decided, asked.clone()), "{case}");
        }
    }
}
