#![doc = include_str!("../guide/discover.md")]

mod file;
mod fixed;
mod instance;
mod resolve;

pub use file::{File, file};
pub use fixed::{Fixed, fixed};
pub use instance::Instance;
pub use resolve::Resolve;
