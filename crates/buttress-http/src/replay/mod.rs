//! Streaming bodies that can be sent again.

mod body;
mod layer;
mod tape;

pub use body::{ReplayBody, ReplayError};
pub use layer::{Replay, ReplayLayer};

#[cfg(test)]
mod tests;
