//! The value axis, from bottom to top.

use super::axis::round_step;

/// The positions of values between top and bottom.
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    height: f64,
    pub ticks: Vec<f64>,
}

impl Scale {
    pub(super) fn of(
        values: impl Iterator<Item = f64> + Clone,
        logarithmic: bool,
        height: f64,
    ) -> Self {
        let values = values.filter(|value| value.is_finite());
        let most = values.clone().fold(0.0, f64::max);
        if logarithmic {
            let least = values.filter(|value| *value > 0.0).fold(f64::MAX, f64::min).min(most);
            let (least, most) = if most > 0.0 { (least, most) } else { (1e-3, 1.0) };
            return Self::logarithmic(least, most, height);
        }
        // One line of text per step, with space between.
        let step = round_step(if most > 0.0 { most * 32.0 / height } else { 1.0 });
        let high = (most * 1.04 / step).ceil().max(1.0) * step;
        let ticks = (0..=(high / step).round() as u32).map(|n| f64::from(n) * step).collect();
        Self { low: 0.0, high, logarithmic, height, ticks }
    }

    /// Returns a logarithmic scale between two round numbers. The ticks are powers of ten. If
    /// `most` is less than 40 times `least`, 2 and 5 times each power are ticks too.
    fn logarithmic(least: f64, most: f64, height: f64) -> Self {
        let fine: &[f64] = if most / least < 40.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32 + 1);
        let all: Vec<f64> = (first..=last)
            .flat_map(|power| fine.iter().map(move |factor| factor * 10f64.powi(power)))
            .collect();
        let low = all.iter().copied().filter(|tick| *tick <= least * 1.001).fold(0.0, f64::max);
        let high = all.iter().copied().find(|tick| *tick >= most * 0.999 && *tick > low);
        let (low, high) = (low.max(f64::MIN_POSITIVE), high.unwrap_or(most * 10.0));
        let ticks = all.into_iter().filter(|tick| (low..=high).contains(tick)).collect();
        Self { low, high, logarithmic: true, height, ticks }
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.height * (1.0 - share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64], logarithmic: bool, height: f64) -> Vec<f64> {
        Scale::of(values.iter().copied(), logarithmic, height).ticks
    }

    #[test]
    fn ticks_are_round_and_none_crowd() {
        assert_eq!(ticks(&[0.0, 395.0], false, 96.0), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(ticks(&[0.0, 62.0], false, 56.0), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(&[], false, 56.0), [0.0, 1.0]);
        assert_eq!(ticks(&[f64::NAN, 0.0], true, 96.0).len(), 4);
    }

    #[test]
    fn times_of_one_size_get_finer_ticks() {
        let close = |found: Vec<f64>, wanted: &[f64]| {
            assert_eq!(found.len(), wanted.len(), "{found:?}");
            assert!(found.iter().zip(wanted).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{found:?}");
        };
        close(ticks(&[0.028, 0.19], true, 96.0), &[0.02, 0.05, 0.1, 0.2]);
        close(ticks(&[0.0028, 1.9], true, 96.0), &[0.001, 0.01, 0.1, 1.0, 10.0]);
        close(ticks(&[0.1, 0.1], true, 96.0), &[0.1, 0.2]);
    }

    #[test]
    fn the_greatest_value_is_below_the_top_and_the_least_above_the_bottom() {
        for logarithmic in [false, true] {
            let scale = Scale::of([0.013, 7.0].into_iter(), logarithmic, 100.0);
            assert!(scale.y(7.0) > 0.0 && scale.y(0.013) <= 100.0 && scale.y(7.0) < scale.y(0.1));
        }
    }
}
