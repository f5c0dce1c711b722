//! Faults that a test injects into steps of sagas and into stores, and the effects that the test asserts.
//!
//! - [`StepFaults`] injects an error, a doubt, a repetition or a crash at a step, by its name.
//! - [`Effects`] records the effects of steps, and compares them with the end of the saga.
//! - [`StoreFaults`] injects errors, lost answers, hangs and crashes into the operations of a store.
//!
//! ```
//! use buttress_durable::saga::{Call, Config, Definition, Executor, Status};
//! use buttress_sim::inject::{Effects, Injected, StepFaults};
//! use tower::{BoxError, Service};
//!
//! /// The definition under test. It takes the services of its steps.
//! fn order<S>(shop: S) -> Definition<u32>
//! where
//!     S: Service<Call<u32>, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static,
//! {
//!     let mut order = Definition::<u32>::builder("order", 1);
//!     for name in ["reserve", "charge"] {
//!         order
//!             .step(name)
//!             .action((), shop.clone(), |order: &u32, ()| *order)
//!             .definite(|error| error.downcast_ref().is_some_and(Injected::is_definite))
//!             .undo((), shop.clone(), |order: &u32, (), _output| *order)
//!             .add();
//!     }
//!     order.build().unwrap()
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let (effects, faults) = (Effects::new(), StepFaults::new());
//! let shop = faults.around(effects.participant(|order: &u32| *order), BoxError::from);
//! let orders = Executor::in_memory(order(shop), Config::new())?;
//!
//! // The card is charged, and the answer is lost. The first refund fails.
//! faults.action("charge").doubt_after();
//! faults.undo("charge").fail("unavailable");
//! let report = orders.run_to_end(7).await?;
//! assert_eq!(report.status(), Status::Compensated);
//! effects.assert_undone(report.id(), "charge");
//! effects.check(report.id(), report.steps().iter().copied())?;
//!
//! // The card is declined: nothing was charged, so nothing is refunded.
//! faults.action("charge").fail("declined");
//! let report = orders.run_to_end(8).await?;
//! assert_eq!(report.reason(), Some("charge: declined"));
//! effects.assert_never(report.id(), "charge");
//! assert!(faults.unused().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! The [guide](crate::guide::testing_sagas) has an example with a crash and a store that fails.

mod effects;
mod participant;
mod rules;
mod step_service;
mod steps;
mod stores;
#[cfg(test)]
mod tests;

pub use effects::{Count, Effects};
pub use participant::{Overtaken, Participant, Recording, RecordingFuture};
pub use rules::Injection;
pub use step_service::FaultyStep;
pub use steps::{At, Injected, StepFaults};
pub use stores::{FaultyStore, Of, StoreFaults, StoreHook};
