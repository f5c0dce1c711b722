//! The median of measurements, and their spread.

/// The least number of values for a result.
pub const ENOUGH: usize = 5;

/// The median, and the quartiles about it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Spread {
    /// Returns `None` if there are too few values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarters: usize| values[(values.len() - 1) * quarters / 4];
        (values.len() >= ENOUGH).then(|| Self { lower: at(1), median: at(2), upper: at(3) })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} [{:.1}, {:.1}]", self.median, self.lower, self.upper)
    }
}

/// Returns the middle value of an odd number of values; `None` without values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_quarter_is_on_either_side_of_the_quartiles() {
        let spread = Spread { lower: 2.0, median: 3.0, upper: 4.0 };
        assert_eq!(Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]), Some(spread));
        assert_eq!(spread.to_string(), "3.0 [2.0, 4.0]");
        assert_eq!(Spread::of([1.0; 4]), None);
    }
}
