//! A process that crashes at every durable boundary of a saga, and of a relay, in turn. The next
//! process finishes its work, each effect happens at most once, and keys never change.

mod children;
mod claims;
mod migration;
mod outbox;
mod owners;
mod relays;
mod saga;
mod steps;
mod store;
mod ways;

use buttress::{Rng, VirtualClock};
use buttress_sim::Executor;
use buttress_sim::crash::Process;

/// Returns how many operations each process has begun.
fn operations<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Vec<u64> {
    processes.into_iter().map(|process| process.operations().len() as u64).collect()
}

/// Returns an executor on `time`. With a seed, the tasks of one instant run in an order that varies.
fn executor(time: &VirtualClock, ties: Option<u64>) -> Executor {
    let executor = Executor::new(time);
    match ties {
        Some(seed) => executor.vary_ties(Rng::seeded(seed)),
        None => executor,
    }
}
