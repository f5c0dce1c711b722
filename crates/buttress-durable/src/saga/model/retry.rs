//! [`Retry`]: how many times an undo or an action is attempted, and the waits between its attempts.

use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{InvalidConfig, Rng};

use crate::check::check_at_least;

/// The longest hint of a failure that counts, so that a faulty service cannot keep a saga waiting.
const LONGEST_HINT: Duration = Duration::from_secs(5 * 60);

/// The attempts of an undo, of a pivot in doubt, or of a retryable step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::saga) struct Retry {
    pub attempts: u32,
    pub backoff: Backoff,
}

impl Retry {
    pub(in crate::saga) const fn new(attempts: u32, backoff: Backoff) -> Self {
        Self { attempts, backoff }
    }

    /// Checks the values. `field` is the name of the attempts.
    pub(in crate::saga) fn check(&self, field: &str) -> Result<(), InvalidConfig> {
        check_at_least(field, self.attempts, 1)?;
        self.backoff.check()
    }

    /// Returns the wait after attempt number `made`, from 1; `None` if that was the last one. `waited` is the wait
    /// before it, and `hint` is how long its failure asks to wait.
    pub(in crate::saga) fn wait_after(
        &self,
        made: u32,
        waited: Duration,
        hint: Option<Duration>,
        rng: &Rng,
    ) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let wait = self.backoff.delay(made.saturating_sub(1), waited, rng);
        Some(hint.map_or(wait, |hint| wait.max(hint.min(LONGEST_HINT))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_longer_one_of_backoff_and_hint_up_to_five_minutes() {
        let retry = Retry::new(2, Backoff::fixed(Duration::from_secs(3)));
        let wait = |made, hint: Option<u64>| {
            let hint = hint.map(Duration::from_secs);
            let wait = retry.wait_after(made, Duration::ZERO, hint, &Rng::seeded(1));
            wait.map(|wait| wait.as_secs())
        };
        assert_eq!(wait(1, None), Some(3));
        assert_eq!((wait(1, Some(2)), wait(1, Some(4))), (Some(3), Some(4)));
        assert_eq!((wait(1, Some(300)), wait(1, Some(301))), (Some(300), Some(300)));
        assert_eq!((wait(2, None), wait(2, Some(4))), (None, None), "the last attempt");
    }
}
