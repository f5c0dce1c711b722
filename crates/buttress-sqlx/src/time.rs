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

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_at_the_limit_counts() {
        let second = Duration::from_secs(1);
        assert_eq!(within(second, Clock::default().sleep(second)).await, Some(()));
        let longer = Clock::default().sleep(second + Duration::from_millis(1));
        assert_eq!(within(second, longer).await, None);
    }
}
