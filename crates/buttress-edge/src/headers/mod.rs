//! The header fields that a proxy removes, and the ones that it writes.

pub(crate) mod forwarded;
pub(crate) mod hop;
pub(crate) mod via;

#[cfg(test)]
mod tests;
