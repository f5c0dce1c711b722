//! Finding the windows that the system served.

use super::Sample;

/// Returns for each window whether the system served its load.
///
/// Chance alone must not count as a failure: a request that begins in one window may end in the
/// next. So a single window may lack three deviations of a Poisson process, and more in relation to
/// a small load. A shortage that stays within this allowance in every window is not chance. So
/// stretches of 2, 4, 8 .. windows are judged by their sums, and in a long stretch the allowance is
/// a small share. A system that is down has no such allowance: it is down until the shortage stops
/// growing.
pub(super) fn served(samples: &[Sample], healthy: f64) -> Vec<bool> {
    let mut served = vec![true; samples.len()];
    let mut length = 1;
    while length <= samples.len() {
        judge(&mut served, samples, healthy, length);
        length *= 2;
    }
    prolong(&mut served, samples, healthy);
    smooth(&mut served, samples);
    served
}

/// Judges every stretch of `length` windows without an unserved window.
fn judge(served: &mut [bool], samples: &[Sample], healthy: f64, length: usize) {
    let mut from = 0;
    while let (Some(stretch), Some(known)) =
        (samples.get(from..from + length), served.get_mut(from..from + length))
    {
        if let Some(last) = known.iter().rposition(|served| !served) {
            from += last + 1;
        } else if is_short(stretch, healthy) {
            let (begin, end) = worst(stretch, healthy);
            if let Some(down) = known.get_mut(begin..end) {
                down.fill(false);
            }
            from += end.max(1);
        } else {
            from += 1;
        }
    }
}

/// Returns the number of answers that a window lacks; negative if it has more than it needs.
fn shortage(sample: &Sample, healthy: f64) -> f64 {
    healthy * sample.offered as f64 - sample.good as f64
}

fn is_short(stretch: &[Sample], healthy: f64) -> bool {
    let offered = stretch.iter().map(|sample| sample.offered).sum::<u64>() as f64;
    let short: f64 = stretch.iter().map(|sample| shortage(sample, healthy)).sum();
    short > (3.0 * offered.sqrt()).min(0.5 * offered)
}

/// Returns the part of `stretch` with the greatest shortage, without served windows at its ends.
fn worst(stretch: &[Sample], healthy: f64) -> (usize, usize) {
    let (mut best, mut found) = (0.0, (0, stretch.len()));
    let (mut sum, mut from) = (0.0, 0);
    for (index, sample) in stretch.iter().enumerate() {
        sum += shortage(sample, healthy);
        if sum > best {
            (best, found) = (sum, (from, index + 1));
        } else if sum <= 0.0 {
            (sum, from) = (0.0, index + 1);
        }
    }
    found
}

/// Adds to each unserved stretch the following windows in which the shortage grows.
fn prolong(served: &mut [bool], samples: &[Sample], healthy: f64) {
    let mut to = 0;
    while to < served.len() {
        let (before, rest) = served.split_at_mut(to);
        if before.last() != Some(&false) || rest.first() != Some(&true) {
            to += 1;
            continue;
        }
        let gap = rest.iter().take_while(|served| **served).count();
        let stretch = samples.get(to..to + gap).unwrap_or_default();
        let (mut sum, mut best, mut until) = (0.0, 0.0, 0);
        for (index, sample) in stretch.iter().enumerate() {
            sum += shortage(sample, healthy);
            if sum > best {
                (best, until) = (sum, index + 1);
            }
        }
        rest.iter_mut().take(until).for_each(|served| *served = false);
        to += gap;
    }
}

/// Treats one window that differs from its neighbours as chance, unless there was a fault.
fn smooth(served: &mut [bool], samples: &[Sample]) {
    for index in 1..served.len().saturating_sub(1) {
        let faulty = samples.get(index).is_some_and(|sample| sample.faulty);
        if let [before, between, after] = served.get_mut(index - 1..=index + 1).unwrap_or_default()
            && before == after
            && !faulty
        {
            *between = *before;
        }
    }
    let faulty = samples.last().is_some_and(|sample| sample.faulty);
    if let [.., before, last] = served
        && !faulty
    {
        *last = *before;
    }
}
