//! Sums of instants and durations that saturate.

use std::time::{Duration, Instant};

/// Returns `start + duration`, or the far future if an instant cannot hold the sum.
pub(crate) fn after(start: Instant, duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(duration).or_else(|| start.checked_add(FAR)).unwrap_or(start)
}

/// Returns `duration` in nanoseconds, at most `u64::MAX` (584 years).
pub(crate) fn to_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate() {
        let now = buttress::Clock::default().now();
        assert!(after(now, Duration::MAX) > now + Duration::from_secs(3600));
        assert_eq!(to_nanos(Duration::MAX), u64::MAX);
    }
}
