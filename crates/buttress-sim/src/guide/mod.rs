//! Guide pages.

#[doc = include_str!("microservices.md")]
pub mod microservices {}

#[doc = include_str!("permits.md")]
#[doc = "\n```rust"]
#[doc = include_str!("../../examples/permits.rs")]
#[doc = "```"]
pub mod permits {}

#[doc = include_str!("testing_sagas.md")]
pub mod testing_sagas {}
