use std::time::Duration;

use crate::distribution::nanos;

/// Times in buckets with a relative width of at most 1/128. Counts, mean, least and greatest time
/// are exact, percentiles to within 0.4 %. Its memory does not depend on the number of times.
#[derive(Clone, PartialEq, Debug)]
pub struct Histogram {
    /// The counts from bucket `first` on.
    buckets: Vec<u32>,
    first: usize,
    count: u64,
    sum: u128,
    least: u64,
    most: u64,
}

/// The number of buckets per power of two, as an exponent.
const GRAIN: u32 = 7;
const STEP: usize = 1 << GRAIN;

impl Histogram {
    /// Creates an empty histogram.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: Vec::new(), first: 0, count: 0, sum: 0, least: u64::MAX, most: 0 }
    }

    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        self.record_nanos(nanos(time));
    }

    #[inline]
    pub(crate) fn record_nanos(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        self.count += 1;
        self.sum += u128::from(nanos);
        self.least = self.least.min(nanos);
        self.most = self.most.max(nanos);
        match self.buckets.get_mut(bucket.wrapping_sub(self.first)) {
            Some(count) => *count = count.saturating_add(1),
            None => self.widen(bucket, 1),
        }
    }

    /// Makes room for `bucket`, and adds to it.
    #[cold]
    fn widen(&mut self, bucket: usize, by: u32) {
        if self.buckets.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let missing = self.first - bucket;
            self.buckets.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = bucket;
        }
        let index = bucket - self.first;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(index) {
            *count = count.saturating_add(by);
        }
    }

    /// Adds all times of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in other.buckets.iter().enumerate() {
            if *count > 0 {
                self.widen(other.first + index, *count);
            }
        }
        self.count += other.count;
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// Removes all times and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.sum, self.least, self.most) = (0, 0, u64::MAX, 0);
    }

    /// Returns a copy without unneeded buckets.
    pub(crate) fn trimmed(&self) -> Self {
        let used = |count: &u32| *count > 0;
        let (Some(from), Some(to)) =
            (self.buckets.iter().position(used), self.buckets.iter().rposition(used))
        else {
            return Self::new();
        };
        let buckets = self.buckets.get(from..=to).unwrap_or_default().to_vec();
        let Self { count, sum, least, most, .. } = *self;
        Self { buckets, first: self.first + from, count, sum, least, most }
    }

    /// Returns the number of times.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the mean, or zero if the histogram is empty.
    #[must_use]
    pub fn mean(&self) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((self.sum / u128::from(self.count)) as u64)
    }

    /// Returns the sum of the times, in seconds.
    #[must_use]
    pub fn total_seconds(&self) -> f64 {
        self.sum as f64 * 1e-9
    }

    /// Returns the longest time, or zero if the histogram is empty.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.most)
    }

    /// Returns the time that a share `q` of the times does not exceed: 0.99 for the 99th
    /// percentile. Zero if the histogram is empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).max(1.0);
        let mut below = 0.0;
        for (index, count) in self.buckets.iter().enumerate() {
            let count = f64::from(*count);
            if count > 0.0 && below + count >= rank {
                let (from, width) = span_of(self.first + index);
                // It assumes that the times of a bucket are spread evenly.
                let within =
                    from as f64 + width as f64 * ((rank - below - 0.5) / count).clamp(0.0, 1.0);
                return Duration::from_nanos((within as u64).clamp(self.least, self.most));
            }
            below += count;
        }
        self.max()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn bucket_of(nanos: u64) -> usize {
    if nanos < STEP as u64 {
        return nanos as usize;
    }
    let shift = 63 - nanos.leading_zeros() - GRAIN;
    (shift as usize + 1) * STEP + (nanos >> shift) as usize - STEP
}

/// Returns the least time of a bucket, and its width.
const fn span_of(bucket: usize) -> (u64, u64) {
    if bucket < STEP {
        return (bucket as u64, 1);
    }
    let shift = bucket / STEP - 1;
    (((bucket % STEP + STEP) as u64) << shift, 1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn buckets_meet_without_gaps_and_are_narrow() {
        let mut end = 0;
        for bucket in 0..bucket_of(u64::MAX) {
            let (from, width) = span_of(bucket);
            assert_eq!(from, end, "bucket {bucket}");
            assert_eq!((bucket_of(from), bucket_of(from + width - 1)), (bucket, bucket));
            assert!(width == 1 || width * 128 <= from);
            end = from + width;
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let rng = Seed::new(1).named("times");
        for most in [50, 5_000, 3_000_000_000] {
            let mut times: Vec<u64> = (0..5_000).map(|_| rng.between(0, most)).collect();
            let mut histogram = Histogram::new();
            times.iter().for_each(|time| histogram.record_nanos(*time));
            times.sort_unstable();
            for q in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let exact = times[((q * 5_000.0_f64).ceil() as usize).max(1) - 1] as f64;
                let found = histogram.quantile(q).as_nanos() as f64;
                assert!(
                    (found - exact).abs() <= exact / 128.0 + 1.0,
                    "{q} of {most}: {found} {exact}"
                );
            }
            assert_eq!(histogram.max().as_nanos(), u128::from(times[4_999]));
            let mean = times.iter().sum::<u64>() / 5_000;
            assert_eq!(histogram.mean().as_nanos() as u64, mean);
        }
    }

    #[test]
    fn merged_is_as_if_recorded_in_one() {
        let (mut one, mut other, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for nanos in [900, 70, 1 << 40, 0] {
            one.record_nanos(nanos);
            both.record_nanos(nanos);
        }
        for nanos in [5, 1 << 50, 70] {
            other.record_nanos(nanos);
            both.record_nanos(nanos);
        }
        one.merge(&other.trimmed());
        assert_eq!(one, both);
        other.clear();
        assert_eq!((other.count(), other.quantile(0.5)), (0, Duration::ZERO));
        other.record_nanos(3);
        assert_eq!(other.trimmed(), {
            let mut h = Histogram::new();
            h.record_nanos(3);
            h
        });
    }
}
