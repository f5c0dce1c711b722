//! What outlives a call, and with a database the process: how many sagas and messages in a second, and
//! what others wait beside them.
//!
//! The programs need the feature `durable`; the names of what they measure do not.

#[cfg(feature = "durable")]
pub mod flow;
#[cfg(feature = "durable")]
pub mod in_memory;
#[cfg(feature = "durable")]
pub mod sagas;

/// How many sagas are under way at any time.
pub const IN_FLIGHT: usize = 64;

pub const STENO: &str = "steno";

pub const MEMORY_ON_ONE: &str = "sagas of five steps in memory, 64 in flight, one thread";
pub const MEMORY_ON_TWO: &str = "sagas of five steps in memory, 64 in flight, two threads";

const _: () = assert!(IN_FLIGHT == 64, "the names say it");
