//! Durable stores for `buttress`.
