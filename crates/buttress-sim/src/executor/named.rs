use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

thread_local! {
    /// The name that the future which is being polled gives its task.
    static NAME: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether there is one: looked at after every poll of every task.
    static NAMED: Cell<bool> = const { Cell::new(false) };
}

/// Gives the task that polls `future` a name, for the reports of an [`Executor`](super::Executor).
/// Elsewhere it does nothing, so that tasks can carry it through a [`Spawner`](buttress::Spawner).
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

/// The name given since the last time this was asked.
#[inline]
pub(super) fn take() -> Option<String> {
    if NAMED.get() {
        NAMED.set(false);
        return NAME.take();
    }
    None
}
