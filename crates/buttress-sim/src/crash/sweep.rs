use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use super::points::Side;
use super::trouble::{Schedule, Strike, Trouble};
use crate::rng::Seed;

/// The result of one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lived {
    /// The number of operations of each process until the work was done, in the order of processes.
    pub operations: Vec<u64>,
    /// The violations at the end.
    pub verdict: Result<(), String>,
}

/// A run that broke an invariant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}\nschedule: {schedule}\nreproduce: {}={how} cargo test -- --exact {}", .variable, .test)]
pub struct Broken {
    /// The variable that repeats the run.
    variable: &'static str,
    /// Its value.
    how: String,
    /// The name of the test.
    test: String,
    /// The troubles of the run.
    pub schedule: Schedule,
    /// The violations.
    pub what: String,
}

/// The variable that selects one schedule.
const SCHEDULE: &str = "BUTTRESS_SCHEDULE";
/// The variable that selects one seed.
const SEED: &str = "BUTTRESS_SEED";
/// The variable for the number of seeds.
const SEEDS: &str = "BUTTRESS_SEEDS";
/// The variable for the first seed.
const FIRST_SEED: &str = "BUTTRESS_FIRST_SEED";
/// The variable for the number of threads.
const THREADS: &str = "BUTTRESS_THREADS";
/// The variable for the stride over all pairs.
const PAIRS: &str = "BUTTRESS_PAIRS";

fn test() -> String {
    std::thread::current().name().unwrap_or("<test>").to_owned()
}

/// Runs a scenario without trouble, and then once per operation of each process, side and trouble.
/// Returns the number of runs.
///
/// With the variable `BUTTRESS_SCHEDULE` set, as a failure prints it, only that schedule is run.
///
/// # Errors
/// Returns the first run that broke an invariant.
pub fn each_trouble(
    troubles: &[Trouble],
    mut run: impl FnMut(&Schedule) -> Lived,
) -> Result<u64, Broken> {
    if let Some(schedule) = chosen::<Schedule>(SCHEDULE) {
        return judged(&schedule, run(&schedule)).map(|_| 1);
    }
    let calm = judged(&Schedule::calm(), run(&Schedule::calm()))?;
    let mut runs = 1;
    for strike in strikes(&calm, troubles) {
        let schedule = Schedule(vec![strike]);
        judged(&schedule, run(&schedule))?;
        runs += 1;
    }
    Ok(runs)
}

/// Runs a scenario with two troubles at a time. At least one process survives both. It runs every
/// `stride`-th of all pairs, or with the stride in the variable `BUTTRESS_PAIRS`; 1 runs all pairs.
/// Returns the number of runs.
///
/// # Errors
/// Returns the first run that broke an invariant.
pub fn each_pair(
    troubles: &[Trouble],
    stride: usize,
    mut run: impl FnMut(&Schedule) -> Lived,
) -> Result<u64, Broken> {
    if let Some(schedule) = chosen::<Schedule>(SCHEDULE) {
        return judged(&schedule, run(&schedule)).map(|_| 1);
    }
    let calm = judged(&Schedule::calm(), run(&Schedule::calm()))?;
    let all = strikes(&calm, troubles);
    let pairs = all.iter().enumerate().flat_map(|(at, first)| {
        all.iter().skip(at + 1).map(move |second| Schedule(vec![*first, *second]))
    });
    let survives = |schedule: &Schedule| {
        (1u32..).zip(&calm.operations).any(|(process, _)| {
            let crash =
                |strike: &Strike| strike.process == process && strike.trouble == Trouble::Crash;
            !schedule.0.iter().any(crash)
        })
    };
    let stride = chosen(PAIRS).unwrap_or(stride).max(1);
    let mut runs = 0;
    // It takes the last pair of each stretch: the first pairs strike one operation twice.
    for schedule in pairs.filter(survives).skip(stride - 1).step_by(stride) {
        judged(&schedule, run(&schedule))?;
        runs += 1;
    }
    Ok(runs)
}

/// Runs `count` seeds from 0 on, or as many as the variable `BUTTRESS_SEEDS` says. `run` draws its
/// scenario and its schedule from the seed and returns both. Returns the number of runs.
///
/// One thread per processor runs the seeds, or the number of threads in the variable
/// `BUTTRESS_THREADS`. A run depends only on its seed, so the number of threads changes no result.
///
/// With the variable `BUTTRESS_FIRST_SEED` set, the seeds begin there instead of at 0. With the
/// variable `BUTTRESS_SEED` set, as a failure prints it, only that seed is run.
///
/// # Errors
/// Returns the run with the lowest seed among the runs that broke an invariant before the threads
/// stopped.
///
/// # Panics
/// If `run` panics.
pub fn each_seed(
    count: u64,
    run: impl Fn(Seed) -> (Schedule, Lived) + Sync,
) -> Result<u64, Broken> {
    let (first, count): (u64, u64) = match chosen(SEED) {
        Some(seed) => (seed, 1),
        None => (chosen(FIRST_SEED).unwrap_or(0), chosen(SEEDS).unwrap_or(count)),
    };
    let last = first.saturating_add(count);
    let next = AtomicU64::new(first);
    let broken = Mutex::new(None::<(u64, Broken)>);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                return;
            }
            let stop = StopOnUnwind { next: &next, last };
            let (schedule, lived) = run(Seed::new(seed));
            drop(stop);
            if let Err(what) = lived.verdict {
                next.fetch_max(last, Ordering::Relaxed);
                let how = seed.to_string();
                let found = Broken { variable: SEED, how, schedule, what, test: test() };
                let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                if broken.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                    *broken = Some((seed, found));
                }
            }
        }
    };
    let name = test();
    let threads = chosen(THREADS).unwrap_or_else(|| available_parallelism().map_or(1, Into::into));
    let threads = threads.min(usize::try_from(count).unwrap_or(usize::MAX));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // If a thread cannot be started, the other threads run its seeds.
            drop(Builder::new().name(name.clone()).spawn_scoped(scope, work));
        }
        work();
    });
    match broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, broken)) => Err(broken),
        None => Ok(count),
    }
}

/// Ends all threads when a run panics.
struct StopOnUnwind<'a> {
    next: &'a AtomicU64,
    last: u64,
}

impl Drop for StopOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.next.fetch_max(self.last, Ordering::Relaxed);
        }
    }
}

fn judged(schedule: &Schedule, lived: Lived) -> Result<Lived, Broken> {
    match lived.verdict {
        Ok(()) => Ok(lived),
        Err(what) => {
            let (how, schedule) = (schedule.to_string(), schedule.clone());
            Err(Broken { variable: SCHEDULE, how, schedule, what, test: test() })
        }
    }
}

fn strikes(calm: &Lived, troubles: &[Trouble]) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for (process, operations) in (1u32..).zip(&calm.operations) {
        for operation in 1..=*operations {
            for side in [Side::Before, Side::After] {
                let strike = |trouble| Strike { process, operation, side, trouble };
                strikes.extend(troubles.iter().copied().map(strike));
            }
        }
    }
    strikes
}

fn chosen<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}
