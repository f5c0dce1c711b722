use std::time::Duration;

/// A snapshot of a station. It counts calls that came in since the station was made, or since the end of the
/// warm-up, and what became of those calls.
///
/// While none of these calls is under way, `arrived = completed + failed + overloaded + down + cancelled + swallowed`.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StationStats {
    /// Calls that came in: attempts, seen from the caller.
    pub arrived: u64,
    /// Jobs that were worked on to their end, and went well, whether or not somebody still waited.
    pub completed: u64,
    /// Jobs that were worked on to their end, and went wrong.
    pub failed: u64,
    /// Turned away: no room in the queue, or waited for too long under `CoDel`.
    pub overloaded: u64,
    /// Ended by a crash, or came while the service was down.
    pub down: u64,
    /// Dropped because their caller had left, before or in their work.
    pub cancelled: u64,
    /// Came in and were never answered: a black hole.
    pub swallowed: u64,
    /// Jobs that were worked on to their end for a caller who had left.
    pub for_nobody: u64,
    /// Waiting now.
    pub waiting: u32,
    /// Worked on now.
    pub running: u32,
    /// Time that servers were at work, all of them added up. During a pause no server is.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub busy: Duration,
    /// Of that, spent on jobs that went wrong, were cancelled or were done for nobody.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub wasted: Duration,
    /// The time that jobs spent waiting and in work, added up over the time and over the jobs: the number in
    /// the system, integrated.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub present: Duration,
    /// The sum of the times in the system of the jobs in [`left`](Self::left).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub sojourn: Duration,
    /// The number of counted jobs that left the system, for whatever reason. A job that arrived before the end
    /// of the warm-up is not counted.
    pub left: u64,
    /// Over what time all this was counted.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub over: Duration,
}

impl StationStats {
    /// The mean number of jobs in the system.
    #[must_use]
    pub fn mean_present(&self) -> f64 {
        ratio(self.present, self.over)
    }

    /// The mean number of busy servers.
    #[must_use]
    pub fn mean_busy(&self) -> f64 {
        ratio(self.busy, self.over)
    }

    /// The mean time of a job in the system.
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
