//! From the output of the measuring programs to tables, targets and a gate.

pub mod baseline;
pub mod callgrind;
mod cells;
pub mod events;
pub mod figures;
pub mod gate;
pub mod lockfile;
pub mod markdown;
mod missed;
pub mod programs;
mod reached;
pub mod results;
pub mod targets;
pub mod toolchain;
