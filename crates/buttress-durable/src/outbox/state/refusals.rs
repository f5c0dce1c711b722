//! [`Refusals`]: failures that use up no attempt, of the relay as a whole. An outage of the publisher refuses every message.

use std::time::Instant;

use crate::outage::MOST_REFUSALS;

/// How often in a row the relay has waited, and was refused again.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::outbox) struct Refusals {
    in_a_row: u32,
    /// The end of the present wait.
    until: Option<Instant>,
}

impl Refusals {
    pub(in crate::outbox) fn in_a_row(self) -> u32 {
        self.in_a_row
    }

    /// Takes in that a message was delivered.
    pub(in crate::outbox) fn delivered(&mut self) {
        *self = Self::default();
    }

    /// Takes in that a message was refused. Its next attempt is at `again`. Further refusals until then belong to the same
    /// wait.
    pub(in crate::outbox) fn refused(&mut self, now: Instant, again: Instant) {
        if self.until.is_none_or(|until| until <= now) {
            self.in_a_row = (self.in_a_row + 1).min(MOST_REFUSALS - 1);
            self.until = Some(again);
        }
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
        refusals.refused(now, after(100));
        refusals.refused(after(1), after(300));
        assert_eq!(refusals.in_a_row(), 1, "in the same wait");
        for (wait, in_a_row) in (2..20).zip([2, 3, 4, 5, 6, 7, 7, 7, 7]) {
            refusals.refused(after(wait * 1000), after(wait * 1000 + 100));
            assert_eq!(refusals.in_a_row(), in_a_row);
        }
        refusals.delivered();
        assert_eq!(refusals.in_a_row(), 0);
    }
}
