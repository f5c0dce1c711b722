//! [`Outage`]: the failures of a store. Decides how long to wait, and what to log. Pure.

use std::time::{Duration, Instant};

use buttress::{StoreError, StoreErrorKind};

/// The wait before an operation is repeated that only an operator can make possible.
pub(crate) const MENDED_BY_HAND: Duration = Duration::from_secs(60);
/// The longest wait while a store is unavailable.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// The most failures in a row that lengthen a wait, of those that use up no attempt. An exponential wait is then 128 times
/// its first.
pub(crate) const MOST_REFUSALS: u32 = 8;

/// The log line after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Say {
    /// The store has begun to fail.
    Began,
    /// An operator must fix the store.
    Mend,
    /// Both lines were logged before.
    Nothing,
}

/// The failures of several kinds of operations, each numbered by its caller. One outage makes one
/// line at its start and one at its end, with any number of failures in between.
#[derive(Debug)]
pub(crate) struct Outage<const N: usize> {
    /// Failures in a row.
    failed: [u32; N],
    /// The operation in the log line, and when it began to fail. The outage ends when this
    /// operation works.
    away: Option<(usize, Instant)>,
    /// The operation that an operator must make possible, and when it began to fail.
    broken: Option<(usize, Instant)>,
}

impl<const N: usize> Default for Outage<N> {
    fn default() -> Self {
        Self { failed: [0; N], away: None, broken: None }
    }
}

impl<const N: usize> Outage<N> {
    /// Takes in a failure. Returns the log line, and the wait before the operation is repeated.
    /// `first` is the wait after the first failure.
    pub(crate) fn failed(
        &mut self,
        operation: usize,
        error: &StoreError,
        first: Duration,
        now: Instant,
    ) -> (Say, Duration) {
        let doublings = self.failed.get_mut(operation).map_or(0, |failed| {
            *failed = failed.saturating_add(1);
            (*failed - 1).min(20)
        });
        let by_hand = error.kind() != StoreErrorKind::Transient;
        let said = if by_hand { &mut self.broken } else { &mut self.away };
        let say = match said {
            Some(_) => Say::Nothing,
            none => {
                *none = Some((operation, now));
                if by_hand { Say::Mend } else { Say::Began }
            }
        };
        if by_hand {
            return (say, MENDED_BY_HAND);
        }
        (say, first.saturating_mul(1 << doublings).min(LONGEST.max(first)))
    }

    /// Records that the operation succeeded or is not needed any more. Returns the length of the
    /// outage that ends.
    pub(crate) fn worked(&mut self, operation: usize, now: Instant) -> Option<Duration> {
        if let Some(failed) = self.failed.get_mut(operation) {
            *failed = 0;
        }
        let [away, broken] = [&mut self.away, &mut self.broken]
            .map(|said| said.take_if(|(by, _)| *by == operation).map(|(_, since)| since));
        let since = away.into_iter().chain(broken).min()?;
        Some(now.saturating_duration_since(since))
    }

    /// Whether the operation failed the last time.
    pub(crate) fn fails(&self, operation: usize) -> bool {
        self.failed.get(operation).is_some_and(|failed| *failed > 0)
    }

    /// Whether operations have failed since they last succeeded.
    pub(crate) fn is_on(&self) -> bool {
        self.failed.iter().any(|failed| *failed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn now() -> Instant {
        buttress::Clock::default().now()
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_and_one_line_is_said() {
        let (mut outage, now) = (Outage::<2>::default(), now());
        let away = StoreError::transient("away");
        let mut fails = |operation| outage.failed(operation, &away, 100 * MS, now);
        assert_eq!(fails(0), (Say::Began, 100 * MS));
        assert_eq!(fails(0), (Say::Nothing, 200 * MS));
        assert_eq!(fails(1), (Say::Nothing, 100 * MS), "each operation has its own waits");
        let waits: Vec<_> = (0..8).map(|_| fails(0).1.as_millis()).collect();
        assert_eq!(waits, [400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert!(outage.is_on());
        assert_eq!(outage.worked(1, now), None, "the log names the other operation");
        assert_eq!(outage.worked(0, now + 5 * MS), Some(5 * MS));
        assert!(!outage.is_on());
        assert_eq!(outage.worked(0, now), None);
        assert_eq!(outage.failed(1, &away, MS, now), (Say::Began, MS));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_person_must_mend_is_asked_for_once_a_minute() {
        let (mut outage, now) = (Outage::<2>::default(), now());
        let minute = Duration::from_secs(60);
        for kind in [StoreErrorKind::Misconfigured, StoreErrorKind::Corrupt] {
            let error = StoreError::new(kind, "no such role");
            assert_eq!(outage.failed(0, &error, MS, now), (Say::Mend, minute));
            assert_eq!(outage.failed(0, &error, MS, now), (Say::Nothing, minute));
            assert_eq!(outage.failed(1, &error, MS, now), (Say::Nothing, minute));
            // Another outage in the meantime is logged nevertheless.
            let away = StoreError::transient("away");
            assert_eq!(outage.failed(1, &away, MS, now).0, Say::Began);
            assert_eq!(outage.worked(1, now), Some(Duration::ZERO));
            assert_eq!(outage.worked(0, now), Some(Duration::ZERO));
        }
    }
}
