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

/// The values that a [`Body`](super::Body) held.
///
/// Dropping it releases them, the last one first.
#[derive(Default)]
#[must_use = "dropping it releases the values"]
pub struct Held(Option<Box<Node>>);

/// A list takes one word in a body that holds nothing.
struct Node {
    watch: Box<dyn Watch>,
    next: Option<Box<Self>>,
}

impl Held {
    pub(super) fn add(&mut self, watch: impl Watch) {
        let next = self.0.take();
        self.0 = Some(Box::new(Node { watch: Box::new(watch), next }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Notifies and drops all values.
    pub(super) fn release(&mut self, end: End) {
        while let Some(node) = self.0.take() {
            let Node { mut watch, next } = *node;
            // Before the call: the rest is released too if it panics.
            self.0 = next;
            watch.ended(end);
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
        let count = std::iter::successors(self.0.as_deref(), |node| node.next.as_deref()).count();
        f.debug_tuple("Held").field(&count).finish()
    }
}
