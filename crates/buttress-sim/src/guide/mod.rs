//! How to, page by page.

#[doc = include_str!("microservices.md")]
pub mod microservices {}
