//! Time as it is stored: nanoseconds since 1970 in an `i64`, which lasts until the year 2262.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use buttress::Clock;

/// `duration` in nanoseconds; the far future where that does not fit.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What was stored by [`nanos`]. Nothing was stored before 1970.
pub(crate) fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// `duration` in nanoseconds, short enough to be added to the present in SQL: 126 years at most.
#[cfg(feature = "postgres")]
pub(crate) fn span(duration: Duration) -> i64 {
    nanos(duration).min(4_000_000_000_000_000_000)
}

/// The instant `duration` after `now`.
#[cfg(feature = "sqlite")]
pub(crate) fn after(now: i64, duration: Duration) -> i64 {
    now.saturating_add(nanos(duration))
}

/// The instant `duration` before `now`.
#[cfg(feature = "sqlite")]
pub(crate) fn before(now: i64, duration: Duration) -> i64 {
    now.saturating_sub(nanos(duration))
}

/// The end of what was granted for `length` and ends at `until`: never later than `length` from now, and
/// never in the past unless it is over. It lies later than that only if the clock was set back since, or
/// the row is damaged.
pub(crate) fn bounded(until: i64, length: i64, now: i64) -> i64 {
    until.min(now.saturating_add(length.max(0)))
}

/// What `future` comes to, if it does within `limit`; it is dropped otherwise. A result that is there
/// when the limit is reached counts.
///
/// The limit runs on tokio's clock, whatever clock the store was given: a database takes real time.
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
            // Without end, and of a length nobody knows.
            (i64::MAX, i64::MAX, 5, i64::MAX),
            (110, i64::MAX, 5, 110),
            // Damaged: never in the past of now because of it.
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
