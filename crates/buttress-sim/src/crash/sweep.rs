use super::points::Side;
use super::trouble::{Schedule, Strike, Trouble};
use crate::rng::Seed;

/// What one run came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lived {
    /// How many operations each process began until the work was done, the first process first.
    pub operations: Vec<u64>,
    /// What is wrong at the end.
    pub verdict: Result<(), String>,
}

/// A run that broke an invariant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}\nreproduce: {}={how} cargo test -- --exact {}", .variable, test())]
pub struct Broken {
    /// The variable that repeats the run.
    variable: &'static str,
    /// Its value.
    how: String,
    /// What went wrong in the run.
    pub schedule: Schedule,
    /// The violations.
    pub what: String,
}

/// The variable that picks one schedule.
const SCHEDULE: &str = "BUTTRESS_SCHEDULE";
/// The variable that picks one seed.
const SEED: &str = "BUTTRESS_SEED";
/// How many seeds are run.
const SEEDS: &str = "BUTTRESS_SEEDS";
/// Which part of all pairs is run: every how many-th.
const PAIRS: &str = "BUTTRESS_PAIRS";

fn test() -> String {
    std::thread::current().name().unwrap_or("<test>").to_owned()
}

/// Runs a scenario without trouble, and then once for each operation of each process, side and trouble. Returns
/// the number of runs.
///
/// With the variable `BUTTRESS_SCHEDULE` set, as a failure prints it, only that schedule is run.
///
/// # Errors
/// The first run that broke an invariant.
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

/// The same with two troubles, of which at least one process survives. All pairs are many: of them every `stride`-th is run, or as many as the variable
/// `BUTTRESS_PAIRS` says in its place; 1 runs all. Returns the number of runs.
///
/// # Errors
/// The first run that broke an invariant.
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
    // From the end of each stretch: the first pairs strike one operation twice.
    for schedule in pairs.filter(survives).skip(stride - 1).step_by(stride) {
        judged(&schedule, run(&schedule))?;
        runs += 1;
    }
    Ok(runs)
}

/// Runs `count` seeds from 0 on, or as many as the variable `BUTTRESS_SEEDS` says. `run` draws its scenario and
/// its schedule from the seed and returns both. Returns the number of runs.
///
/// With the variable `BUTTRESS_SEED` set, as a failure prints it, only that seed is run.
///
/// # Errors
/// The first run that broke an invariant.
pub fn each_seed(
    count: u64,
    mut run: impl FnMut(Seed) -> (Schedule, Lived),
) -> Result<u64, Broken> {
    let (first, count): (u64, u64) = match chosen(SEED) {
        Some(seed) => (seed, 1),
        None => (0, chosen(SEEDS).unwrap_or(count)),
    };
    for seed in first..first.saturating_add(count) {
        let (schedule, lived) = run(Seed::new(seed));
        let how = seed.to_string();
        lived.verdict.map_err(|what| Broken { variable: SEED, how, schedule, what })?;
    }
    Ok(count)
}

fn judged(schedule: &Schedule, lived: Lived) -> Result<Lived, Broken> {
    match lived.verdict {
        Ok(()) => Ok(lived),
        Err(what) => {
            let (how, schedule) = (schedule.to_string(), schedule.clone());
            Err(Broken { variable: SCHEDULE, how, schedule, what })
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
