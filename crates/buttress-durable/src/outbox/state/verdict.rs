//! The verdict on a message that was not delivered: another attempt, or a dead letter. Pure.

use std::time::Duration;

use crate::outbox::config::{Config, HeadOfKey};
use crate::outbox::store::Verdict;
use crate::text;

/// The reason why a delivery failed.
pub(in crate::outbox) struct Failure {
    pub error: String,
    /// Whether the delivery used up an attempt.
    pub counts: bool,
    /// The wait that the publisher asks for.
    pub hint: Option<Duration>,
}

impl Failure {
    pub(in crate::outbox) fn counted(error: impl Into<String>) -> Self {
        Self { error: error.into(), counts: true, hint: None }
    }
}

/// The limits on attempts and starts of a message.
#[derive(Clone, Copy, Debug)]
pub(in crate::outbox) struct Limits {
    pub attempts: u32,
    pub max_starts: u32,
    pub max_hint: Duration,
    /// Whether a dead letter holds its key.
    pub hold_key: bool,
}

impl Limits {
    pub(in crate::outbox) fn of(config: &Config) -> Self {
        Self {
            attempts: config.attempts,
            max_starts: config.max_starts,
            max_hint: config.max_hint,
            hold_key: config.head_of_key == HeadOfKey::Block,
        }
    }

    /// Decides about a message whose delivery failed after `before` counted attempts. `wait` returns the wait
    /// after a number of counted attempts.
    pub(in crate::outbox) fn after_failure(
        self,
        before: u32,
        failure: Failure,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Verdict {
        let Failure { error, counts, hint } = failure;
        let error = text::cut(error);
        let attempts = before.saturating_add(u32::from(counts));
        // The last attempt makes a dead letter. A delivery that did not reach the publisher is no
        // attempt.
        if counts && attempts >= self.attempts {
            return Verdict::Dead { error, hold_key: self.hold_key };
        }
        let hint = hint.unwrap_or_default().min(self.max_hint);
        Verdict::Retry { counts, after: wait(attempts).max(hint), error }
    }

    /// Decides about a suspect message whose start was recorded as number `starts`. Returns a dead
    /// letter if the message crashed the relay too often, `None` if the relay may publish it.
    pub(in crate::outbox) fn after_start(self, starts: u32) -> Option<Verdict> {
        (starts > self.max_starts).then(|| Verdict::Dead {
            error: format!("the message crashed the relay {} times", starts.saturating_sub(1)),
            hold_key: self.hold_key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(hold_key: bool) -> Limits {
        Limits { attempts: 3, max_starts: 2, max_hint: 10 * SECOND, hold_key }
    }

    fn failed(before: u32, counts: bool, hint: Option<Duration>) -> Verdict {
        let failure = Failure { error: "away".to_owned(), counts, hint };
        limits(true).after_failure(before, failure, |attempts| attempts * SECOND)
    }

    fn retry(counts: bool, after: Duration) -> Verdict {
        Verdict::Retry { counts, after, error: "away".to_owned() }
    }

    #[test]
    fn the_last_counted_attempt_makes_a_dead_letter() {
        assert_eq!(failed(0, true, None), retry(true, SECOND));
        assert_eq!(failed(1, true, None), retry(true, 2 * SECOND));
        let dead = Verdict::Dead { error: "away".to_owned(), hold_key: true };
        assert_eq!(failed(2, true, None), dead);
        assert_eq!(failed(u32::MAX, true, None), dead);
    }

    #[test]
    fn what_did_not_reach_the_publisher_is_tried_without_end() {
        for before in [0, 2, 3, u32::MAX] {
            let Verdict::Retry { counts: false, .. } = failed(before.min(9), false, None) else {
                panic!("{before}");
            };
        }
    }

    #[test]
    fn a_hint_lengthens_the_wait_up_to_its_limit() {
        assert_eq!(failed(0, true, Some(4 * SECOND)), retry(true, 4 * SECOND));
        assert_eq!(failed(0, true, Some(Duration::from_millis(1))), retry(true, SECOND));
        assert_eq!(failed(0, true, Some(Duration::MAX)), retry(true, 10 * SECOND));
    }

    #[test]
    fn a_suspect_is_published_as_often_as_it_may_be() {
        for hold_key in [false, true] {
            assert_eq!(limits(hold_key).after_start(2), None);
            let error = "the message crashed the relay 2 times".to_owned();
            assert_eq!(limits(hold_key).after_start(3), Some(Verdict::Dead { error, hold_key }));
        }
    }

    #[test]
    fn a_long_error_is_cut_before_any_store_sees_it() {
        for before in [0, 2] {
            let failure = Failure::counted("\u{1f680}".repeat(17 << 18));
            let error = match limits(false).after_failure(before, failure, |_| SECOND) {
                Verdict::Dead { error, .. } | Verdict::Retry { error, .. } => error,
                Verdict::Delivered => String::new(),
            };
            assert_eq!(error, "\u{1f680}".repeat(2000));
        }
    }
}
