//! Concepts that all patterns share, one page per topic.

#[doc = include_str!("dependencies.md")]
pub mod dependencies {}

#[doc = include_str!("ordering.md")]
pub mod ordering {}

#[doc = include_str!("sharing.md")]
pub mod sharing {}

#[doc = include_str!("axum.md")]
pub mod axum {}

#[doc = include_str!("clients.md")]
pub mod clients {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("migrating.md")]
pub mod migrating {}
