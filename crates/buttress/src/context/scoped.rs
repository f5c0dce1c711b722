//! [`Scoped`]: a future inside a context.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Waking, Poll};

use pin_project_lite::pin_project;

use super::Context;
use super::current::Entered;
use crate::machinery::ended::polled_after_completion;

pin_project! {
    /// A future that is polled, and dropped, inside a context. Made by [`Context::scope`] and [`Context::run`].
    ///
    /// A poll exchanges two words of the thread before and after the inner poll, and allocates nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        // `None` once it was dropped.
        #[pin]
        future: Option<F>,
        context: Context,
    }

    impl<F> PinnedDrop for Scoped<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _entered = Entered::new(this.context);
                this.future.set(None);
            }
        }
    }
}

impl<F> Scoped<F> {
    pub(super) fn new(context: Context, future: F) -> Self {
        Self { future: Some(future), context }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(future) = this.future.as_pin_mut() else {
            polled_after_completion("context::Scoped")
        };
        let _entered = Entered::new(this.context);
        future.poll(cx)
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").field("context", &self.context).finish_non_exhaustive()
    }
}
