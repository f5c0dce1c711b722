//! Guide pages: how to build and operate durable services.

#[cfg(all(feature = "sqlite", feature = "postgres"))]
#[doc = include_str!("deployment.md")]
pub mod deployment {}

#[cfg(all(feature = "events", feature = "postgres"))]
#[doc = include_str!("first_projection.md")]
pub mod first_projection {}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
#[doc = include_str!("first_service.md")]
pub mod first_service {}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
#[doc = include_str!("payments.md")]
pub mod payments {}
