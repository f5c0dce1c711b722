#![doc = include_str!("../guide/circuit_breaker.md")]

mod backpressure;
mod changed;
mod config;
mod future;
mod handle;
mod keyed;
mod layer;
mod renewal;
mod service;
mod shared;
mod state;

pub use backpressure::BackpressureCircuitBreaker;
pub use changed::Changed;
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use keyed::{KeyedCircuitBreaker, KeyedCircuitBreakerLayer, KeyedHandle, KeyedStats};
pub use layer::CircuitBreakerLayer;
pub(crate) use renewal::Renewal;
pub use service::CircuitBreaker;
pub use shared::Admission;
pub(crate) use state::Ticket;
