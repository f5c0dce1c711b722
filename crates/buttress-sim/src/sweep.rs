//! Many runs: over a grid of parameters, over seeds, over threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `run` for every point of `grid` on this number of threads, and returns the results in the
/// order of the grid. The number of threads does not change the results, because runs share
/// nothing.
///
/// With 0, one thread per core runs the points.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Distribution, Load, Scenario, Server, sweep};
/// let rates = [50.0, 80.0, 95.0];
/// let p99 = sweep(&rates, 2, |rate| {
///     let scenario = Scenario::new("load", Duration::from_secs(60)).load(Load::poisson(*rate));
///     let work = Distribution::exponential(Duration::from_millis(10));
///     let outcome = scenario.run(|world| world.server(Server::new("server", work)))?;
///     Ok::<_, buttress_sim::SimError>(outcome.latency().quantile(0.99))
/// });
/// let p99 = p99.into_iter().collect::<Result<Vec<_>, _>>()?;
/// assert!(p99.is_sorted());
/// # Ok::<(), buttress_sim::SimError>(())
/// ```
///
/// # Panics
/// If `run` panics.
pub fn sweep<P: Sync, T: Send>(grid: &[P], threads: usize, run: impl Fn(&P) -> T + Sync) -> Vec<T> {
    let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if threads == 0 { cores() } else { threads }.min(grid.len().max(1));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(grid.len()));
    let work = || {
        while let Some((index, point)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            grid.get(index).map(|point| (index, point))
        } {
            let result = run(point);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    if threads == 1 {
        work();
    } else {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The mean of several runs, and the interval that contains the mean of all possible runs with 95 %
/// confidence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval. Infinite for a single run.
    pub half: f64,
}

impl Interval {
    /// Returns the interval for one value per run. The runs must have different seeds.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        if values.is_empty() {
            return Self { mean: f64::NAN, half: f64::INFINITY };
        }
        let mean = values.iter().sum::<f64>() / n;
        if values.len() == 1 {
            return Self { mean, half: f64::INFINITY };
        }
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        Self { mean, half: student_95(values.len() - 1) * (variance / n).sqrt() }
    }

    /// Returns the lower bound.
    #[must_use]
    pub const fn low(&self) -> f64 {
        self.mean - self.half
    }

    /// Returns the upper bound.
    #[must_use]
    pub const fn high(&self) -> f64 {
        self.mean + self.half
    }

    /// Returns whether zero is outside of the interval. A difference is significant then.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.low() > 0.0 || self.high() < 0.0
    }
}

/// Returns the 97.5th percentile of Student's t distribution.
fn student_95(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    match freedom.checked_sub(1).and_then(|index| TABLE.get(index)) {
        Some(t) => *t,
        // The first terms of its expansion about the normal distribution.
        None => 1.959_964 + 2.372_271 / freedom as f64 + 2.82 / (freedom * freedom) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn results_come_in_the_order_of_the_grid_on_any_number_of_threads() {
        let grid: Vec<u64> = (0..100).collect();
        for threads in [0, 1, 2, 7, 1000] {
            let squares = sweep(&grid, threads, |n| n * n);
            assert_eq!(squares, grid.iter().map(|n| n * n).collect::<Vec<_>>());
        }
        assert_eq!(sweep(&[] as &[u64], 3, |n| *n), Vec::<u64>::new());
    }

    #[test]
    fn nineteen_of_twenty_intervals_hold_the_mean() {
        let rng = Seed::new(2).named("intervals");
        for runs in [4, 40] {
            let held = (0..2_000).filter(|_| {
                let values: Vec<f64> = (0..runs).map(|_| crate::rng::normal(&rng)).collect();
                !Interval::of(&values).is_clear()
            });
            let share = held.count() as f64 / 2_000.0;
            assert!((share - 0.95).abs() < 0.02, "{share} of {runs}");
        }
        assert_eq!(Interval::of(&[3.0]).half, f64::INFINITY);
    }
}
