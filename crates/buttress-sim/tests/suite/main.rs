//! What the simulator shows, seen from outside.

mod determinism;
mod engines;
mod faults;
mod limits;
mod metastable;
mod queueing;
mod support;
