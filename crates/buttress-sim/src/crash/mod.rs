//! Crashes at durable boundaries: the data that a store, a saga or a relay keeps when its process
//! crashes.
//!
//! A *boundary* is a place where a change becomes durable, or has just become durable. Code under
//! test names its boundaries through [`CrashPoints`]. It is usually the hook of a
//! [`Hooked`](crate::hooked::Hooked) store.
//! [`at_every_boundary`] runs a scenario once to count them. It then runs it once per boundary: it
//! crashes there, restarts with the remaining data, and checks.
//!
//! ```
//! use std::sync::Mutex;
//! use buttress_sim::crash::{CrashPoints, at_every_boundary};
//!
//! /// The data that survives the process.
//! #[derive(Default)]
//! struct Disk(Mutex<Vec<&'static str>>);
//!
//! impl Disk {
//!     async fn append_once(&self, points: &CrashPoints, record: &'static str) {
//!         if !self.0.lock().unwrap().contains(&record) {
//!             points.around("append", async { self.0.lock().unwrap().push(record) }).await;
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let report = at_every_boundary(
//!     async || Disk::default(),
//!     async |disk, points| {
//!         disk.append_once(points, "reserved").await;
//!         disk.append_once(points, "charged").await;
//!     },
//!     async |disk| match disk.0.lock().unwrap().as_slice() {
//!         ["reserved", "charged"] => Ok(()),
//!         other => Err(format!("the disk has {other:?}")),
//!     },
//! )
//! .await
//! .unwrap();
//! assert_eq!(report.boundaries.len(), 4); // before and after each of two appends
//! # }
//! ```
//!
//! # Several processes, and faults other than crashes
//!
//! A process can also freeze while its lease ends, and an answer can arrive late or never. A wall
//! clock can jump, and a caller can drop a future half-way. A [`Schedule`] places such troubles at
//! operations of a [`Process`]. A [`Ledger`] holds the invariants. [`each_trouble`] runs every
//! trouble alone, [`each_pair`] two together, and [`each_seed`] schedules drawn from a seed.

mod driver;
mod guarded;
mod ledger;
mod points;
mod process;
mod sweep;
#[cfg(test)]
mod tests;
mod trouble;

pub use driver::{CrashFailure, CrashReport, at_every_boundary, at_every_pair};
pub use guarded::Guarded;
pub use ledger::Ledger;
pub use points::{Boundary, CrashPoints, Crashed, Side};
pub use process::{Alive, Process};
pub use sweep::{Broken, Lived, each_pair, each_seed, each_trouble};
pub use trouble::{InvalidSchedule, Schedule, Strike, Trouble};
