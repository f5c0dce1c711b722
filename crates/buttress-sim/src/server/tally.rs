//! The counts of a station.

use std::time::Duration;

use super::stats::StationStats;

#[derive(Default)]
pub(super) struct Tally {
    since: u64,
    last: u64,
    /// The counts. The times of the statistics are kept below, in nanoseconds.
    pub counts: StationStats,
    /// The number of jobs in the system.
    pub present: u64,
    pub wasted: u128,
    busy: u128,
    presence: u128,
    sojourn: u128,
}

impl Tally {
    /// Adds the time since the last change.
    #[inline]
    pub(super) fn account(&mut self, now: u64, busy: u32) {
        let passed = u128::from(now - self.last);
        if passed > 0 {
            self.busy += passed * u128::from(busy);
            self.presence += passed * u128::from(self.present);
            self.last = now;
        }
    }

    /// Counts a job that leaves. `counted` is 1 if its end counts, and 0 if it arrived before the
    /// counting began.
    pub(super) fn depart(&mut self, arrived: u64, now: u64, counted: u64) {
        self.present -= 1;
        self.counts.left += counted;
        self.sojourn += u128::from(now - arrived) * u128::from(counted);
    }

    /// Restarts the counts; the jobs in the system stay.
    pub(super) fn restart(&mut self, now: u64) {
        *self = Self { since: now, last: now, present: self.present, ..Self::default() };
    }

    pub(super) fn stats(&self, now: u64) -> StationStats {
        let time = |nanos: u128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        StationStats {
            busy: time(self.busy),
            wasted: time(self.wasted),
            present: time(self.presence),
            sojourn: time(self.sojourn),
            over: Duration::from_nanos(now - self.since),
            ..self.counts
        }
    }
}
