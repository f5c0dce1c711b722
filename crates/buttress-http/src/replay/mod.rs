//! Bodies that stream, and can be sent again all the same.

mod body;
mod layer;
mod tape;

pub use body::{ReplayBody, ReplayError};
pub use layer::{Replay, ReplayLayer};

#[cfg(test)]
mod tests;
