//! [`Rejected`]: a handler's error after which another attempt cannot help.

use tower::BoxError;

/// The error of a handler that refuses a message for good, e.g. because an order does not exist.
///
/// The consumer makes a dead letter of the message without another attempt. It finds the error also as the
/// [`source`](std::error::Error::source) of another one.
#[derive(Debug, thiserror::Error)]
#[error("the handler rejects the message")]
pub struct Rejected(#[source] BoxError);

impl Rejected {
    /// Creates the error with its reason, which the dead letter keeps.
    pub fn new(reason: impl Into<BoxError>) -> Self {
        Self(reason.into())
    }
}
