//! From the output of the measuring programs to tables, targets and a gate.

pub mod baseline;
pub mod callgrind;
mod cells;
pub mod chart;
pub mod contention;
pub mod events;
pub mod figures;
pub mod gate;
pub mod lackey;
pub mod lockfile;
pub mod markdown;
mod missed;
mod on_two;
pub mod profile;
pub mod programs;
mod reached;
pub mod results;
pub mod size;
pub mod targets;
pub mod toolchain;
