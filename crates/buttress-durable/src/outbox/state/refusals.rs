//! [`Refusals`]: failures that use up no attempt, of the relay as a whole. An outage of the publisher refuses every message.

use std::time::{Duration, Instant};

use crate::outage::MOST_REFUSALS;

/// The waits in a row after which the relay logs an outage. A single refusal is not an outage.
const LOGGED: u32 = 3;

/// How many times in a row the relay has waited and was refused again.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::outbox) struct Refusals {
    in_a_row: u32,
    /// The end of the current wait.
    until: Option<Instant>,
    /// When the first wait began.
    since: Option<Instant>,
}

impl Refusals {
    pub(in crate::outbox) fn in_a_row(self) -> u32 {
        self.in_a_row
    }

    /// Takes in that a message was delivered. Returns how long the outage lasted, if it was logged.
    pub(in crate::outbox) fn delivered(&mut self, now: Instant) -> Option<Duration> {
        let Self { in_a_row, since, .. } = std::mem::take(self);
        since.filter(|_| in_a_row >= LOGGED).map(|since| now.saturating_duration_since(since))
    }

    /// Takes in that a message was refused. Its next attempt is at `again`. Further refusals until then belong to the same
    /// wait. Returns whether the relay logs the outage now.
    pub(in crate::outbox) fn refused(&mut self, now: Instant, again: Instant) -> bool {
        if self.until.is_some_and(|until| until > now) {
            return false;
        }
        let before = self.in_a_row;
        self.in_a_row = (before + 1).min(MOST_REFUSALS - 1);
        self.until = Some(again);
        self.since.get_or_insert(now);
        before < LOGGED && self.in_a_row == LOGGED
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_of_one_wait_count_once_until_a_delivery() {
        let (mut refusals, now) = (Refusals::default(), buttress::Clock::default().now());
        let after = |millis| now + Duration::from_millis(millis);
        assert!(!refusals.refused(now, after(100)));
        assert!(!refusals.refused(after(1), after(300)));
        assert_eq!(refusals.in_a_row(), 1, "in the same wait");
        for (wait, in_a_row) in (2..20).zip([2, 3, 4, 5, 6, 7, 7, 7, 7]) {
            let logged = refusals.refused(after(wait * 1000), after(wait * 1000 + 100));
            assert_eq!(refusals.in_a_row(), in_a_row);
            assert_eq!(logged, in_a_row == 3, "one line for an outage");
        }
        let lasted = refusals.delivered(after(20_000));
        assert_eq!((refusals.in_a_row(), lasted), (0, Some(Duration::from_secs(20))));
        assert!(!refusals.refused(after(21_000), after(21_100)));
        assert_eq!(refusals.delivered(after(22_000)), None, "no line was logged");
    }
}
