//! The builders of a definition: its steps, their services, and the outputs that each step needs.

pub(in crate::saga) mod builder;
mod child;
pub(in crate::saga) mod definition;
pub(in crate::saga) mod needs;
pub(in crate::saga) mod rules;
pub(in crate::saga) mod signal;
pub(in crate::saga) mod step;
mod wait;
