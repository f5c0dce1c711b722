//! The reasons for unserved windows.

use std::ops::Range;

use super::Sample;
use super::served::served;

/// The verdict on a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Served,
    /// Not served, for a reason that is present.
    Caused,
    /// Not served, although the trigger is over and the system carried such a load before.
    Uncaused,
}

/// A load counts as carried once it was answered for this many windows. After as many served windows a fault
/// is no longer the reason of what happens.
const SETTLED: usize = 10;

pub(super) fn verdicts(samples: &[Sample], healthy: f64) -> Vec<Verdict> {
    let served = served(samples, healthy);
    let carried = carried(samples, &served);
    let mut verdicts = vec![Verdict::Served; samples.len()];
    let mut from = 0;
    while let Some(is_served) = served.get(from) {
        let rest = served.get(from..).unwrap_or_default();
        let to = from + rest.iter().take_while(|other| *other == is_served).count();
        if !is_served {
            let carried = carried.get(from).copied().unwrap_or_default();
            give_reasons(&mut verdicts, samples, from..to, carried);
        }
        from = to;
    }
    verdicts
}

/// Returns for each window the greatest load that the system carried before.
///
/// A queue absorbs a load above the capacity for some time. So the load is measured by the answers,
/// as the mean of at least [`SETTLED`] served windows in a row. The greatest of many means is too
/// high by chance, so each mean is reduced by one deviation. Longer stretches, with a smaller
/// deviation, count too.
fn carried(samples: &[Sample], served: &[bool]) -> Vec<f64> {
    let mut carried: Vec<f64> = Vec::with_capacity(samples.len());
    let mut best: f64 = 0.0;
    // The sums of offered load and answers up to each window since the last unserved window.
    let mut sums: Vec<(u64, u64)> = vec![(0, 0)];
    for (sample, served) in samples.iter().zip(served) {
        carried.push(best);
        if !served || sample.faulty {
            sums.truncate(1);
            continue;
        }
        let (offered, good) = sums.last().copied().unwrap_or_default();
        sums.push((offered + sample.offered, good + sample.good));
        let windows = sums.len() - 1;
        let mut length = SETTLED;
        while let (Some(first), Some(last)) =
            (windows.checked_sub(length).and_then(|first| sums.get(first)), sums.last())
        {
            let answered = (last.0 - first.0).min(last.1 - first.1) as f64;
            best = best.max((answered - answered.sqrt()) / length as f64);
            length *= 2;
        }
    }
    carried
}

/// Whether a system that carried `carried` per window carries this load too: at most 5 % more, and
/// two deviations of a Poisson process.
fn bearable(stretch: &[Sample], carried: f64) -> bool {
    let offered = offered(stretch);
    offered <= carried * stretch.len() as f64 * 1.05 + 2.0 * offered.sqrt()
}

fn offered(stretch: &[Sample]) -> f64 {
    stretch.iter().map(|sample| sample.offered).sum::<u64>() as f64
}

/// Gives each window of an unserved stretch its reason.
///
/// A system keeps itself down only if a trigger brought it down and is over. A trigger is a fault,
/// or a load that is now lower. Without a trigger the offered load exceeds the capacity, though a
/// queue may have hidden that for a while.
fn give_reasons(verdicts: &mut [Verdict], samples: &[Sample], down: Range<usize>, carried: f64) {
    let window = |index: usize| samples.get(index..index + 1).unwrap_or_default();
    let faulty = |index: usize| window(index).iter().any(|sample| sample.faulty);
    let mut caused: Vec<bool> =
        down.clone().map(|index| faulty(index) || !bearable(window(index), carried)).collect();
    for index in 1..caused.len().saturating_sub(1) {
        if let [before, between, after] = caused.get_mut(index - 1..=index + 1).unwrap_or_default()
            && before == after
            && !faulty(down.start + index)
        {
            *between = *before;
        }
    }
    let mut triggered = (down.start.saturating_sub(SETTLED)..down.start).any(faulty);
    let mut down_without = false;
    let mut loads: Vec<&[Sample]> = Vec::new();
    let mut from = down.start;
    while let Some(is_caused) = caused.get(from - down.start) {
        // A stretch ends where a fault begins or ends, and where the load starts or stops to be
        // bearable.
        let rest = caused.get(from - down.start..).unwrap_or_default();
        let same = |(index, other): &(usize, &bool)| {
            *other == is_caused && faulty(from + index) == faulty(from)
        };
        let to = from + rest.iter().enumerate().take_while(same).count();
        let stretch = samples.get(from..to).unwrap_or_default();
        let mut verdict = Verdict::Caused;
        if faulty(from) {
            triggered |= !down_without;
        } else if *is_caused {
            loads.push(stretch);
        } else if bearable(stretch, carried) {
            if triggered || loads.iter().any(|load| is_lower(stretch, load)) {
                verdict = Verdict::Uncaused;
            } else {
                down_without |= stretch.len() >= SETTLED;
            }
        }
        if let Some(verdicts) = verdicts.get_mut(from..to) {
            verdicts.fill(verdict);
        }
        from = to;
    }
}

/// Whether the load of `now` is below the load of `before` by a tenth and by five deviations.
/// Chance selected the two stretches, which explains the margin.
fn is_lower(now: &[Sample], before: &[Sample]) -> bool {
    let mean = |stretch: &[Sample]| offered(stretch) / stretch.len().max(1) as f64;
    let variance = |stretch: &[Sample]| mean(stretch) / stretch.len().max(1) as f64;
    let deviation = (variance(now) + variance(before)).sqrt();
    mean(before) > 1.1 * mean(now) + 5.0 * deviation
}
