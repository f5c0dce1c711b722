use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

thread_local! {
    /// The name that the polled future gives its task.
    static NAME: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether there is a name. It is read after every poll of every task.
    static NAMED: Cell<bool> = const { Cell::new(false) };
}

/// Gives the task that polls `future` a name, for the reports of an [`Executor`](super::Executor).
/// With other executors it has no effect, so that tasks can carry the name through a
/// [`Spawner`](buttress::Spawner).
pub fn named<F: Future>(name: impl Into<String>, future: F) -> Named<F> {
    Named { name: Some(name.into()), future }
}

pin_project! {
    /// A future with a name. Made by [`named`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Named<F> {
        name: Option<String>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(name) = this.name.take() {
            NAME.set(Some(name));
            NAMED.set(true);
        }
        this.future.poll(cx)
    }
}

/// Returns the name that was given since the last call.
#[inline]
pub(super) fn take() -> Option<String> {
    if NAMED.get() {
        NAMED.set(false);
        return NAME.take();
    }
    None
}
