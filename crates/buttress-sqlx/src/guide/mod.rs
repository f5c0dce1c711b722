//! Pages on how durable work is built and operated.

#[cfg(all(feature = "sqlite", feature = "postgres"))]
#[doc = include_str!("deployment.md")]
pub mod deployment {}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
#[doc = include_str!("first_service.md")]
pub mod first_service {}
