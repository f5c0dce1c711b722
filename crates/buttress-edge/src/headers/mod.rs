//! The header fields that a proxy removes, and the ones that it writes.

pub(crate) mod forwarded;
pub(crate) mod hop;
pub(crate) mod named;
mod seen;
pub(crate) mod trailers;
pub(crate) mod via;

pub(crate) use seen::Seen;

#[cfg(test)]
mod tests;
