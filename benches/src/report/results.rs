//! All results of one run of the benchmarks.

use super::contention;
use super::events::Events;
use super::figures::{Finding, Table};
use super::programs::{Programs, With, valgrind};
use super::size;
use super::toolchain::{Toolchain, today};

const PROGRAMS: [&str; 6] =
    ["instructions", "contention", "allocations", "memory", "timings", "probes"];

pub struct Results {
    pub date: String,
    pub toolchain: Toolchain,
    pub table: Table,
    /// The version of valgrind, if it was available.
    pub valgrind: Option<String>,
    pub memory: Vec<Finding>,
    pub probes: Vec<Finding>,
    pub durable: Vec<Finding>,
    pub simulators: Vec<Finding>,
    pub events: Vec<Events>,
}

impl Results {
    /// Measures everything, or only the programs with the names in `anew` (see [`Programs::anew`]). It takes a few minutes, and the
    /// machine must be otherwise idle.
    pub fn measure(anew: Option<&[&str]>) -> Self {
        let say = |what: &str| eprintln!("{what} ...");
        say("building");
        let programs = Programs::build(&PROGRAMS, With::Nothing).anew(anew);
        let mut table = Table::default();
        say("instructions");
        programs.instructions(&mut table, &[]);
        say("locked instructions");
        programs.contention(&mut table, &contention::only());
        say("sizes");
        size::measure(&mut table, |_| true);
        say("allocations");
        programs.allocations(&mut table, &[]);
        say("memory");
        let memory = programs.findings("memory");
        say("timings");
        programs.timings(&mut table, &[]);
        say("probes");
        let probes = programs.findings("probes");
        say("building durable work");
        let durable = Programs::build(&["durable"], With::Durable).anew(anew);
        say("durable work");
        let durable = durable.findings("durable");
        say("building the simulators");
        let simulators = Programs::build(&["simulators"], With::Simulators).anew(anew);
        say("simulators");
        let simulators = simulators.findings("simulators");
        say("building once more, with events");
        let events = Programs::build(&["instructions", "allocations", "timings"], With::Events);
        say("events");
        let events = Events::compare(&programs, &events);
        let (date, toolchain, valgrind) = (today(), Toolchain::current(), valgrind());
        Self { date, toolchain, table, valgrind, memory, probes, durable, simulators, events }
    }
}
