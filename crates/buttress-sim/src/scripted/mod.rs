//! A service that follows a script and records its calls, for tests of code that calls services:
//! layers, sagas, relays, gateways.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! use std::time::Duration;
//! use buttress::Clock;
//! use buttress_sim::scripted::{Scripted, Step};
//! use tower::ServiceExt;
//!
//! let (service, script) = Scripted::<&str, u32, String>::new(Clock::default());
//! script.then([Step::fail("busy"), Step::answer(7).after(Duration::from_millis(5))]);
//! assert_eq!(service.clone().oneshot("first").await, Err("busy".to_owned()));
//! assert_eq!(service.oneshot("second").await, Ok(7));
//! assert_eq!(script.calls()[1].request, "second");
//! # }
//! ```

mod script;
mod service;
#[cfg(test)]
mod tests;

pub use script::{Call, Ended, Script, Step};
pub use service::{Scripted, ScriptedFuture};
