#![doc = include_str!("../guide/health.md")]

mod answer;
mod body;
mod details;
mod service;

pub use details::{HealthDetailsService, health_details_service};
pub use service::{HealthService, health_service};
