//! The time and the end of the jobs of a station.

use buttress::Rng;

use super::config::{Load, Server, Slowdown};
use super::failure::ServerError;
use super::job::Dice;
use crate::distribution::Distribution;
use crate::fault::{Condition, either};
use crate::{Seed, rng};

/// Draws the time of a job and how it ends.
pub(super) struct Roll {
    time: Distribution,
    errors: f64,
    slowdown: Option<Slowdown>,
    work: Rng,
    verdicts: Rng,
    faults: Rng,
}

impl Roll {
    pub(super) fn new(server: &Server, seed: Seed) -> Self {
        let seed = seed.child(&format!("server {}", server.name));
        Self {
            time: server.time.clone(),
            errors: server.errors,
            slowdown: server.slowdown.clone(),
            work: seed.named("work"),
            verdicts: seed.named("verdicts"),
            faults: seed.named("faults"),
        }
    }
}

impl Dice for Roll {
    fn roll(&self, load: Load, condition: &Condition) -> (u64, Option<ServerError>) {
        let mut work = self.time.draw_nanos(&self.work);
        let mut factor = condition.slow;
        if let Some(slowdown) = &self.slowdown {
            factor *= sensible(slowdown(load));
        }
        for (share, slow) in &condition.gray {
            if rng::happens(&self.faults, *share) {
                factor *= slow;
            }
        }
        if factor != 1.0 {
            work = (work as f64 * factor) as u64;
        }
        for added in &condition.added {
            work = work.saturating_add(added.draw_nanos(&self.faults));
        }
        let errors = either(self.errors, condition.errors);
        let failed = rng::happens(&self.verdicts, errors);
        (work, failed.then_some(ServerError::Failed))
    }
}

fn sensible(factor: f64) -> f64 {
    if factor.is_finite() && factor >= 0.0 { factor } else { 1.0 }
}
