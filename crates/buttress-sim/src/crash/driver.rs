use std::fmt::Display;

use super::points::{Boundary, CrashPoints};

/// What a crash test went through.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashReport {
    /// The boundaries of a run that nothing disturbed, in order.
    pub boundaries: Vec<Boundary>,
    /// How many runs were killed, each followed by a check.
    pub crashes: u64,
    /// How many were to be killed at a boundary that they did not come to, because their order is not
    /// the same each time. They were checked too.
    pub missed: u64,
}

/// A check that failed, and where the process had died.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {what}{}", died(.at), reproduce(.at))]
pub struct CrashFailure {
    /// Where each life ended, the first first; empty if nothing died.
    pub at: Vec<Boundary>,
    /// What the check said.
    pub what: String,
}

fn died(at: &[Boundary]) -> String {
    let places: Vec<String> = at.iter().map(Boundary::to_string).collect();
    if places.is_empty() {
        "without a crash".to_owned()
    } else {
        format!("crashed at {}", places.join(", then at "))
    }
}

fn reproduce(at: &[Boundary]) -> String {
    if at.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = at.iter().map(|boundary| boundary.number.to_string()).collect();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("<test>");
    format!("\nreproduce: {ONLY}={} cargo test -- --exact {test}", numbers.join(","))
}

/// The variable that picks one crash: the numbers of the boundaries, separated by commas.
const ONLY: &str = "BUTTRESS_CRASH_AT";

/// Kills a process at each of its durable boundaries in turn, starts it again over what it left, and
/// checks.
///
/// - `fresh` makes an empty world: the disk, the database, the other services.
/// - `run` is one life of the process over that world, until all its work is done. It is also how the
///   process starts again, so it must find out for itself what is left to do;
///   [`CrashPoints::incarnation`] tells the lives apart.
/// - `check` says what is wrong with the world when the work is done.
///
/// With the variable `BUTTRESS_CRASH_AT` set, as a failure prints it, only that crash is made.
///
/// # Errors
/// The first check that failed.
pub async fn at_every_boundary<W, E: Display>(
    fresh: impl AsyncFn() -> W,
    run: impl AsyncFn(&W, &CrashPoints),
    check: impl AsyncFn(&W) -> Result<(), E>,
) -> Result<CrashReport, CrashFailure> {
    let test = CrashTest { fresh, run, check };
    let only = chosen();
    let (boundaries, _) = test.lives(&[]).await?;
    let mut report = CrashReport { boundaries, crashes: 0, missed: 0 };
    for number in 1..=report.boundaries.len() as u64 {
        if only.as_deref().is_none_or(|only| only == [number]) {
            let (_, deaths) = test.lives(&[number]).await?;
            report.count(deaths == 1);
        }
    }
    Ok(report)
}

/// The same with two crashes: at every boundary of the first life, and then at every boundary of the
/// second. The number of runs is about the square of the number of boundaries.
///
/// # Errors
/// The first check that failed.
pub async fn at_every_pair<W, E: Display>(
    fresh: impl AsyncFn() -> W,
    run: impl AsyncFn(&W, &CrashPoints),
    check: impl AsyncFn(&W) -> Result<(), E>,
) -> Result<CrashReport, CrashFailure> {
    let test = CrashTest { fresh, run, check };
    let only = chosen();
    let (boundaries, _) = test.lives(&[]).await?;
    let mut report = CrashReport { boundaries, crashes: 0, missed: 0 };
    for first in 1..=report.boundaries.len() as u64 {
        // How many boundaries the second life has is known once it was lived to its end.
        let (second_life, deaths) = test.lives(&[first]).await?;
        report.count(deaths == 1);
        for second in 1..=second_life.len() as u64 {
            if only.as_deref().is_none_or(|only| only == [first, second]) {
                let (_, deaths) = test.lives(&[first, second]).await?;
                report.count(deaths == 2);
            }
        }
    }
    Ok(report)
}

impl CrashReport {
    fn count(&mut self, died: bool) {
        if died {
            self.crashes += 1;
        } else {
            self.missed += 1;
        }
    }
}

struct CrashTest<F, R, C> {
    fresh: F,
    run: R,
    check: C,
}

impl<F, R, C> CrashTest<F, R, C> {
    /// Lives that end at the boundaries of these numbers, then one that ends by itself, then the check.
    /// The boundaries of the last life, and how many were cut short.
    async fn lives<W, E>(&self, deaths: &[u64]) -> Result<(Vec<Boundary>, usize), CrashFailure>
    where
        E: Display,
        F: AsyncFn() -> W,
        R: AsyncFn(&W, &CrashPoints),
        C: AsyncFn(&W) -> Result<(), E>,
    {
        let world = (self.fresh)().await;
        let mut at = Vec::new();
        let mut incarnation = 1;
        for number in deaths {
            let points = CrashPoints::crash_at(*number).in_incarnation(incarnation);
            points.guard((self.run)(&world, &points)).await;
            at.extend(points.crashed());
            incarnation += 1;
        }
        let points = CrashPoints::counting().in_incarnation(incarnation);
        (self.run)(&world, &points).await;
        match (self.check)(&world).await {
            Ok(()) => Ok((points.reached(), at.len())),
            Err(what) => Err(CrashFailure { at, what: what.to_string() }),
        }
    }
}

fn chosen() -> Option<Vec<u64>> {
    let text = std::env::var(ONLY).ok()?;
    text.split(',').map(|number| number.trim().parse().ok()).collect()
}
