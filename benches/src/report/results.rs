//! Everything that one run of the benchmarks found.

use super::figures::{Finding, Table};
use super::programs::Programs;
use super::toolchain::{Toolchain, today};
use crate::patterns::stack::SIX;
use crate::patterns::{BUTTRESS, FLOOR};
use crate::peers::TOWER_RESILIENCE;
use crate::rounds::median;

const PROGRAMS: [&str; 5] = ["instructions", "allocations", "memory", "timings", "probes"];
/// With events compiled in and without take turns so often.
const TURNS: usize = 5;

pub struct Results {
    pub date: String,
    pub toolchain: Toolchain,
    pub table: Table,
    /// Whether there was a valgrind to count instructions.
    pub counted: bool,
    pub memory: Vec<Finding>,
    pub probes: Vec<Finding>,
    pub events: Vec<Events>,
}

/// Six layers without events, and with events compiled in that nobody listens to.
pub struct Events {
    pub candidate: &'static str,
    pub nanos: [f64; 2],
    pub instructions: [Option<f64>; 2],
    pub allocations: [f64; 2],
}

impl Results {
    /// Takes a few minutes, and wants the machine for itself.
    pub fn measure() -> Self {
        let say = |what: &str| eprintln!("{what} ...");
        say("building");
        let programs = Programs::build(&PROGRAMS, false);
        let mut table = Table::default();
        say("instructions");
        let counted = programs.instructions(&mut table, &[]);
        say("allocations");
        programs.allocations(&mut table, &[]);
        say("memory");
        let memory = programs.findings("memory");
        say("timings");
        programs.timings(&mut table, &[]);
        say("probes");
        let probes = programs.findings("probes");
        say("building once more, with events");
        let events = Programs::build(&["instructions", "allocations", "timings"], true);
        say("events");
        let events = compare_events(&programs, &events);
        let (date, toolchain) = (today(), Toolchain::current());
        Self { date, toolchain, table, counted, memory, probes, events }
    }
}

fn compare_events(without: &Programs, with: &Programs) -> Vec<Events> {
    let only = ["--row", SIX.name];
    let both = [without, with];
    let mut tables = [(); 2].map(|()| Table::default());
    for (table, programs) in tables.iter_mut().zip(both) {
        programs.instructions(table, &only);
        programs.allocations(table, &only);
    }
    let candidates = [BUTTRESS, FLOOR, TOWER_RESILIENCE];
    let mut nanos = candidates.map(|_| [Vec::new(), Vec::new()]);
    for _ in 0..TURNS {
        for (i, programs) in both.into_iter().enumerate() {
            let mut timed = Table::default();
            programs.timings(&mut timed, &only);
            for (nanos, candidate) in nanos.iter_mut().zip(candidates) {
                nanos[i].extend(timed.get(SIX.name, candidate).and_then(|figures| figures.nanos));
            }
        }
    }
    let of = |(candidate, nanos): (&'static str, [Vec<f64>; 2])| {
        let figures = [0, 1].map(|i| tables[i].get(SIX.name, candidate).expect("it was measured"));
        Events {
            candidate,
            nanos: nanos.map(|nanos| median(nanos).expect("it was timed")),
            instructions: figures.map(|figures| figures.instructions),
            allocations: figures.map(|figures| figures.allocations.expect("they were counted")),
        }
    };
    candidates.into_iter().zip(nanos).map(of).collect()
}
