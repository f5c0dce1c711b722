#![doc = include_str!("../guide/circuit_breaker.md")]

mod admission;
mod backpressure;
mod changed;
mod config;
mod future;
mod handle;
mod keyed;
mod layer;
mod reading;
mod renewal;
mod service;
mod shared;
mod state;

pub use admission::Admission;
pub use backpressure::BackpressureCircuitBreaker;
pub use changed::Changed;
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerLayer, KeyedHandle, KeyedStats};
pub use layer::CircuitBreakerLayer;
pub(crate) use renewal::Renewal;
pub use service::CircuitBreaker;
pub(crate) use state::Ticket;
