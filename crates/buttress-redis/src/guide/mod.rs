//! The page for operators of Redis.

#[doc = include_str!("redis.md")]
pub mod redis {}
