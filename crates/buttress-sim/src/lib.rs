//! Simulation for `buttress`.

pub mod conformance;
