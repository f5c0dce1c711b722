//! What the limiters that make calls wait have in common.

mod changes;
mod claims;
mod hints;
mod readiness;
mod ticks;
