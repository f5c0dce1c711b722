//! One request of a connection of h2: its current step, and its end if the client takes no part of the answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress::Clock;
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::open::{Counted, Ended};
use super::paced::LIMIT;
use crate::body::PolledFrame;
use crate::patience::Patience;

/// The longest part of an answer that h2 gets at a time, in bytes. The client has to take a part within the limit, so
/// the length bounds how slowly it may read.
const PART: usize = 8 * 1024;

tokio::task_local! {
    static STEP: Cell<Step>;
}

/// What the request of a task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The head of the answer.
    Head,
    /// The next part of the answer.
    Service,
    /// Room at the client for the part with this number.
    Client(u32),
}

/// Sets the step that the current request waits for. A task that runs no request of h2 has no step.
fn set(step: Step) {
    STEP.try_with(|present| present.set(step)).unwrap_or_default();
}

/// Runs a request to its end, or until its client has taken no part of the answer for too long. The stream is reset
/// then, because dropping a request resets its stream.
pub(super) fn run<F: Future>(
    request: F,
    counted: Counted,
    clock: &Clock,
) -> impl Future<Output = ()> + use<F> {
    let patience = Patience::new(LIMIT, clock.clone());
    STEP.scope(Cell::new(Step::Head), Stream { request, waits_for: None, patience, counted })
}

pin_project! {
    struct Stream<F> {
        // Before its count: a request that is counted as ended holds nothing.
        #[pin]
        request: F,
        // The part of the answer that the client had no room for.
        waits_for: Option<u32>,
        patience: Patience,
        counted: Counted,
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let polled = this.request.poll(cx);
        let step = STEP.with(Cell::get);
        if polled.is_ready() {
            // Without an answer only the client ends a request.
            this.counted.end(if step == Step::Head { Ended::Reset } else { Ended::Answered });
            return Poll::Ready(());
        }
        let waits_for = match step {
            Step::Client(part) => Some(part),
            Step::Head | Step::Service => None,
        };
        if *this.waits_for != waits_for {
            *this.waits_for = waits_for;
            this.patience.progress();
        }
        if waits_for.is_none() {
            return Poll::Pending;
        }
        ready!(this.patience.poll(cx));
        tracing::debug!("a client of h2 took no part of its answer for too long");
        Poll::Ready(())
    }
}

pin_project! {
    /// The answer to a request of h2.
    pub(super) struct Answering<F> {
        #[pin]
        pub future: F,
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Parts<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(self.project().future.poll(cx));
        set(Step::Service);
        Poll::Ready(Ok(response.map(|body| Parts { body, rest: Bytes::new(), count: 0 })))
    }
}

pin_project! {
    /// A body in parts of at most [`PART`] bytes.
    pub(super) struct Parts<B> {
        #[pin]
        body: B,
        // The end of a frame that was longer.
        rest: Bytes,
        count: u32,
    }
}

impl<B: Body<Data = Bytes>> Body for Parts<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<B::Error> {
        let this = self.project();
        let mut data = std::mem::take(this.rest);
        if data.is_empty() {
            set(Step::Service);
            data = match ready!(this.body.poll_frame(cx)?) {
                None => return Poll::Ready(None),
                Some(frame) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            };
        }
        if data.len() > PART {
            *this.rest = data.split_off(PART);
        }
        *this.count = this.count.wrapping_add(1);
        set(Step::Client(*this.count));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_comes_in_parts_and_knows_its_length() {
        let whole = Bytes::from_iter((0..3 * PART + 1).map(|n| n as u8));
        let mut parts = Parts { body: Full::new(whole.clone()), rest: Bytes::new(), count: 0 };
        let mut read = Vec::new();
        while !parts.is_end_stream() {
            let left = (whole.len() - read.len()) as u64;
            assert_eq!(parts.size_hint().exact(), Some(left));
            let part = parts.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(!part.is_empty() && part.len() <= PART, "{}", part.len());
            read.extend_from_slice(&part);
        }
        assert_eq!(read, whole);
        assert!(parts.frame().await.is_none());
    }
}
