#![doc = include_str!("../guide/split.md")]

mod config;
mod fall_back;
mod force;
mod future;
mod handle;
mod judge;
mod key;
mod reading;
mod service;
mod shared;
mod state;

pub use config::Config;
pub use fall_back::{FallBack, FallsBack, IsIdempotent, NoFallBack, NotIdempotent};
pub use force::{FindSide, NotForced};
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use judge::{ByError, Ending, Judge, RefusedBy};
pub use key::key;
pub use service::Split;
pub use state::Side;
