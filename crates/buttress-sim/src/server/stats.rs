use std::time::Duration;

/// A snapshot of a station. It counts the calls that arrived since the station was made, or since
/// the end of the warm-up, and how those calls ended.
///
/// While none of these calls is in flight,
/// `arrived = completed + failed + overloaded + down + cancelled + swallowed`.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StationStats {
    /// Calls that arrived. For the caller these are attempts.
    pub arrived: u64,
    /// Jobs that succeeded, whether or not their caller still waited.
    pub completed: u64,
    /// Jobs that were worked on to their end and failed.
    pub failed: u64,
    /// Calls that were rejected: no room in the queue, or too long a wait under `CoDel`.
    pub overloaded: u64,
    /// Jobs that a crash ended, and calls that arrived while the service was down.
    pub down: u64,
    /// Jobs that were dropped because their caller had left, before or during their service.
    pub cancelled: u64,
    /// Calls that were never answered because of a black hole.
    pub swallowed: u64,
    /// Jobs that were worked on to their end after their caller had left.
    pub orphaned: u64,
    /// Jobs that wait now.
    pub waiting: u32,
    /// Jobs in service now.
    pub running: u32,
    /// The sum of the time that all servers worked. During a pause no server works.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub busy: Duration,
    /// The part of `busy` for jobs that failed, were cancelled, or whose caller had left.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub wasted: Duration,
    /// The sum over all jobs of the time that they waited and were in service. It equals the number
    /// of jobs in the system, integrated over the time.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub present: Duration,
    /// The sum of the times in the system of the jobs in [`left`](Self::left).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub sojourn: Duration,
    /// The number of counted jobs that left the system, for any reason. Jobs that arrived before
    /// the end of the warm-up are not counted.
    pub left: u64,
    /// The time over which the numbers were counted.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub over: Duration,
}

impl StationStats {
    /// Returns the mean number of jobs in the system.
    #[must_use]
    pub fn mean_present(&self) -> f64 {
        ratio(self.present, self.over)
    }

    /// Returns the mean number of busy servers.
    #[must_use]
    pub fn mean_busy(&self) -> f64 {
        ratio(self.busy, self.over)
    }

    /// Returns the mean time of a job in the system.
    #[must_use]
    pub fn mean_sojourn(&self) -> Duration {
        if self.left == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((self.sojourn.as_nanos() / u128::from(self.left)) as u64)
    }
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}
