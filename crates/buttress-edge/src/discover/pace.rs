//! [`Pace`]: when a name is looked up again.

use std::time::{Duration, Instant};

use buttress::{Clock, Rng};

/// The default time between two lookups.
const EVERY: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);

/// The waits between the lookups of a name.
#[derive(Clone)]
pub(super) struct Pace {
    pub every: Duration,
    pub clock: Clock,
    pub rng: Rng,
    /// The time of the next lookup. `None` before the first one, and after a failure: the balancer waits then.
    due: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: EVERY, clock: Clock::default(), rng: Rng::default(), due: None }
    }
}

impl Pace {
    /// Waits for the time of the next lookup.
    pub(super) async fn wait(&mut self) {
        if let Some(due) = self.due {
            self.clock.sleep_until(due).await;
            self.due = None;
        }
    }

    /// Sets the time of the next lookup, after one that found an answer. `valid` is how long the answer is valid.
    pub(super) fn found(&mut self, valid: Option<Duration>) {
        let wait = bounded(self.every, valid);
        let permille = u32::try_from(self.rng.between(900, 1100)).unwrap_or(1000);
        self.due = self.clock.now().checked_add(wait.saturating_mul(permille) / 1000);
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.every.fmt(f)
    }
}

/// Returns the wait after an answer: its time to live, from 1 second to `every`, which is at least 1 second.
fn bounded(every: Duration, valid: Option<Duration>) -> Duration {
    let every = every.max(SHORTEST);
    valid.map_or(every, |valid| valid.clamp(SHORTEST, every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_asked_for_again_when_it_ends_and_at_the_latest_after_the_usual_time() {
        let seconds = Duration::from_secs;
        for (every, valid, expected) in [
            (30, None, 30),
            (30, Some(0), 1),
            (30, Some(5), 5),
            (30, Some(86_400), 30),
            (1, Some(0), 1),
            (0, None, 1),
            (0, Some(5), 1),
        ] {
            let found = bounded(seconds(every), valid.map(seconds));
            assert_eq!(found, seconds(expected), "{every} {valid:?}");
        }
    }
}
