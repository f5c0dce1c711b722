//! Simulation for `buttress`.

pub mod crash;
pub mod scripted;
