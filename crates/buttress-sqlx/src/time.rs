//! Times as databases store them: nanoseconds since 1970 in an `i64`, which lasts until the year
//! 2262.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use buttress::Clock;

/// Returns `duration` in nanoseconds, at most `i64::MAX`.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Returns the duration that [`nanos`] converted. Negative values become zero.
pub(crate) fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// Returns `duration` in nanoseconds, at most 126 years, so that SQL can add it to the present.
#[cfg(any(feature = "postgres", feature = "saga"))]
pub(crate) fn span(duration: Duration) -> i64 {
    nanos(duration).min(4_000_000_000_000_000_000)
}

/// Returns the instant `duration` after `now`.
#[cfg(feature = "sqlite")]
pub(crate) fn after(now: i64, duration: Duration) -> i64 {
    now.saturating_add(nanos(duration))
}

/// Returns the instant `duration` before `now`.
#[cfg(feature = "sqlite")]
pub(crate) fn before(now: i64, duration: Duration) -> i64 {
    now.saturating_sub(nanos(duration))
}

/// Returns the end of a grant of `length` that ends at `until`: at most `length` from now, and in
/// the past only if the grant has ended. A stored end beyond that means that the clock was set
/// back, or that the row is damaged.
pub(crate) fn bounded(until: i64, length: i64, now: i64) -> i64 {
    until.min(now.saturating_add(length.max(0)))
}

/// Waits for `future` up to `limit`, and returns `None` after that. A result that is ready at the
/// limit counts.
///
/// The limit runs on tokio's clock, also if the store has another clock: a database takes real
/// time.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut limit = pin!(Clock::default().sleep(limit));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        limit.as_mut().poll(cx).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_saturate() {
        assert_eq!(duration(nanos(Duration::from_nanos(1_700_000_000_123_456_789))).as_nanos(), {
            1_700_000_000_123_456_789
        });
        #[cfg(feature = "sqlite")]
        {
            assert_eq!(after(5, Duration::MAX), i64::MAX);
            assert_eq!(before(5, Duration::MAX), 5 - i64::MAX);
            assert_eq!(duration(-1), Duration::ZERO);
        }
    }

    #[test]
    fn nothing_ends_later_than_its_length_from_now() {
        for (until, length, now, end) in [
            // As granted, partly over, over.
            (110, 10, 100, 110),
            (110, 10, 109, 110),
            (110, 10, 110, 110),
            (110, 10, 500, 110),
            // The clock was set back: by one, by more than the length, before its own beginning.
            (110, 10, 99, 109),
            (110, 10, 50, 60),
            (110, 10, -5, 5),
            // Without end, and with an unknown length.
            (i64::MAX, i64::MAX, 5, i64::MAX),
            (110, i64::MAX, 5, 110),
            // Damaged: the damage never puts an end into the past.
            (i64::MAX, 10, 5, 15),
            (110, -7, 50, 50),
            (110, i64::MIN, 50, 50),
            (i64::MIN, i64::MIN, i64::MAX, i64::MIN),
        ] {
            assert_eq!(bounded(until, length, now), end, "{until} {length} {now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_at_the_limit_counts() {
        let second = Duration::from_secs(1);
        assert_eq!(within(second, Clock::default().sleep(second)).await, Some(()));
        let longer = Clock::default().sleep(second + Duration::from_millis(1));
        assert_eq!(within(second, longer).await, None);
    }
}
