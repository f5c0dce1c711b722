#![doc = include_str!("../guide/dispatch.md")]

mod builder;
mod bus;
mod error;
mod future;
mod handler;
mod registered;

pub use builder::Builder;
pub use bus::Dispatch;
pub use error::{Duplicate, Missing, NoHandler};
pub use future::ResponseFuture;
pub use handler::Handler;
pub use registered::{Handles, Request};

#[cfg(all(test, not(buttress_loom)))]
mod tests;
