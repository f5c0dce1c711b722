//! The values that a body keeps until its end.

use std::fmt;

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Every frame was read.
    Whole,
    /// The sender of the body failed.
    Failed,
    /// The reader dropped the body before its end.
    Dropped,
}

/// A value that a body keeps. It is dropped after the call.
pub(crate) trait Watch: Send + Sync + 'static {
    /// Notifies the value of the end of its body.
    fn ended(&mut self, end: End);
}

/// A value that only has to be dropped.
pub(super) struct Plain<G>(pub(super) G);

impl<G: Send + Sync + 'static> Watch for Plain<G> {
    fn ended(&mut self, _: End) {}
}

/// The values that a [`Body`](super::Body) held, in the order in which they were added.
///
/// Dropping it releases them.
#[derive(Default)]
#[must_use = "dropping it releases the values"]
pub struct Held(Vec<Box<dyn Watch>>);

impl Held {
    pub(super) fn add(&mut self, watch: impl Watch) {
        self.0.push(Box::new(watch));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notifies and drops all values.
    pub(super) fn release(&mut self, end: End) {
        for mut value in std::mem::take(&mut self.0) {
            value.ended(end);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(End::Dropped);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.0.len()).finish()
    }
}
