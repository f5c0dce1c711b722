//! Tests that apply to all limiters that make calls wait.

mod changes;
mod claims;
mod hints;
mod readiness;
mod ticks;
