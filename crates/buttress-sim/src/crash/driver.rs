use std::fmt::Display;

use super::points::{Boundary, CrashPoints};

/// The runs of a crash test.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashReport {
    /// The boundaries of the run without a crash, in order.
    pub boundaries: Vec<Boundary>,
    /// The number of runs that were killed. A check followed each run.
    pub crashes: u64,
    /// The number of runs that did not reach the boundary of their crash, because the order of
    /// boundaries varies. They were checked too.
    pub missed: u64,
}

/// A check that failed, with the place of the crash.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {what}{}", died(.at), reproduce(.at))]
pub struct CrashFailure {
    /// The end of each life, in order. Empty if nothing crashed.
    pub at: Vec<Boundary>,
    /// The description that the check returned.
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

/// The variable that selects one crash: the numbers of the boundaries, separated by commas.
const ONLY: &str = "BUTTRESS_CRASH_AT";

/// Kills a process at each of its durable boundaries in turn, restarts it with the data that
/// remained, and checks the result.
///
/// - `fresh` makes an empty world: the disk, the database, the other services.
/// - `run` is one life of the process in that world, until all its work is done. A restart calls it
///   again, so it must find the remaining work itself. [`CrashPoints::incarnation`] distinguishes
///   the lives.
/// - `check` describes an error in the world when the work is done.
///
/// With the variable `BUTTRESS_CRASH_AT` set, as a failure prints it, only that crash is run.
/// [`at_every_pair`] still runs every single crash then.
///
/// # Errors
/// Returns the first check that failed.
pub async fn at_every_boundary<W, E: Display>(
    fresh: impl AsyncFn() -> W,
    run: impl AsyncFn(&W, &CrashPoints),
    check: impl AsyncFn(&W) -> Result<(), E>,
) -> Result<CrashReport, CrashFailure> {
    CrashTest { fresh, run, check }.sweep(false).await
}

/// Kills a process twice: at every boundary of the first life, and then at every boundary of the
/// second life. It makes about the square of the number of boundaries of runs. See
/// [`at_every_boundary`].
///
/// # Errors
/// Returns the first check that failed.
pub async fn at_every_pair<W, E: Display>(
    fresh: impl AsyncFn() -> W,
    run: impl AsyncFn(&W, &CrashPoints),
    check: impl AsyncFn(&W) -> Result<(), E>,
) -> Result<CrashReport, CrashFailure> {
    CrashTest { fresh, run, check }.sweep(true).await
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
    /// Kills a process at each boundary in turn. With `pairs`, also kills it at each boundary of
    /// the second life.
    async fn sweep<W, E: Display>(&self, pairs: bool) -> Result<CrashReport, CrashFailure>
    where
        F: AsyncFn() -> W,
        R: AsyncFn(&W, &CrashPoints),
        C: AsyncFn(&W) -> Result<(), E>,
    {
        let only = chosen();
        let asked = |crash: &[u64]| only.as_deref().is_none_or(|only| only == crash);
        let (boundaries, _) = self.lives(&[]).await?;
        let mut report = CrashReport { boundaries, crashes: 0, missed: 0 };
        for first in 1..=report.boundaries.len() as u64 {
            if !pairs && !asked(&[first]) {
                continue;
            }
            // The number of boundaries of the second life is known after it has run to its end.
            let (second_life, deaths) = self.lives(&[first]).await?;
            report.count(deaths == 1);
            let seconds = if pairs { second_life.len() as u64 } else { 0 };
            for second in (1..=seconds).filter(|second| asked(&[first, *second])) {
                let (_, deaths) = self.lives(&[first, second]).await?;
                report.count(deaths == 2);
            }
        }
        Ok(report)
    }

    /// Runs lives that end at the boundaries with these numbers, then one that ends by itself, then
    /// the check. Returns the boundaries of the last life, and the number of lives that were
    /// killed.
    async fn lives<W, E: Display>(
        &self,
        deaths: &[u64],
    ) -> Result<(Vec<Boundary>, usize), CrashFailure>
    where
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
