//! Futures of other futures: the first of two, both of two, one of two, and all.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

/// Returns the output of `future`, or `None` if `limit` ends first.
pub(crate) async fn first<F: Future>(
    mut future: Pin<&mut F>,
    mut limit: Pin<&mut (impl Future<Output = ()> + ?Sized)>,
) -> Option<F::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        ready!(limit.as_mut().poll(cx));
        Poll::Ready(None)
    })
    .await
}

/// Polls both futures, and returns both outputs.
pub(crate) async fn both<A: Future, B: Future>(
    mut a: Pin<&mut A>,
    mut b: Pin<&mut B>,
) -> (A::Output, B::Output) {
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|cx| {
        // A future that has ended is not polled again.
        if of_a.is_none() {
            of_a = ended(a.as_mut().poll(cx));
        }
        if of_b.is_none() {
            of_b = ended(b.as_mut().poll(cx));
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Polls all futures, and returns all outputs in their order.
#[cfg(feature = "srv")]
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        for (future, output) in &mut running {
            if output.is_none() {
                *output = ended(future.as_mut().poll(cx));
            }
        }
        if running.iter().any(|(_, output)| output.is_none()) {
            return Poll::Pending;
        }
        Poll::Ready(running.drain(..).filter_map(|(_, output)| output).collect())
    })
    .await
}

fn ended<T>(polled: Poll<T>) -> Option<T> {
    match polled {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

pin_project! {
    /// One of two futures with the same output.
    #[project = EitherProj]
    pub(crate) enum Either<L, R> {
        Left { #[pin] future: L },
        Right { #[pin] future: R },
    }
}

impl<L: Future, R: Future<Output = L::Output>> Future for Either<L, R> {
    type Output = L::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<L::Output> {
        match self.project() {
            EitherProj::Left { future } => future.poll(cx),
            EitherProj::Right { future } => future.poll(cx),
        }
    }
}
