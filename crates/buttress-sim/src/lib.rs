//! Simulation for `buttress`.
