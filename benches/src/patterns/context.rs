//! Rows of the context of a task.

use std::future::Future;
use std::task::Poll;

use buttress::context::{Context, CorrelationId, Scoped};
use tokio::task::futures::TaskLocalFuture;
use tower::Service;

use super::{BUTTRESS, FLOOR};
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::Succeeds;

pub const MADE: Row = Row::all("context: a scope around the call, the id is made");
pub const ACCEPTED: Row = Row::all("context: a scope around the call, the id is accepted");
pub const READ: Row = Row::all("context: a scope in which the deadline is read ten times");

/// The reads of [`READ`].
pub const READS: usize = 10;

pub const NOTES: &[&str] =
    &["Context: the floor is a scope of tokio's task-local with a number in it. \
     An accepted id is 32 bytes of text, as a trusted caller sends it."];

tokio::task_local! {
    static NUMBER: u64;
}

pub fn visit(meter: &mut impl Meter) {
    meter.shared(MADE, BUTTRESS, || Scope { id: || Some(CorrelationId::random()), reads: 0 });
    meter.shared(MADE, FLOOR, || Floor);
    meter.shared(ACCEPTED, BUTTRESS, || Scope { id: accepted, reads: 0 });
    meter.shared(READ, BUTTRESS, || Scope { id: || Some(CorrelationId::random()), reads: READS });
}

fn accepted() -> Option<CorrelationId> {
    std::hint::black_box("0af7651916cd43dd8448eb211c80319c").parse().ok()
}

/// Puts each call in a scope with an id, as the server layer does.
#[derive(Clone, Copy)]
struct Scope {
    id: fn() -> Option<CorrelationId>,
    reads: usize,
}

impl Service<u64> for Scope {
    type Response = u64;
    type Error = <Succeeds as Service<u64>>::Error;
    type Future = Scoped<Reading<<Succeeds as Service<u64>>::Future>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        let mut context = Context::default();
        if let Some(id) = (self.id)() {
            context = context.with_correlation(id);
        }
        context.scope(Reading { inner: Succeeds.call(request), reads: self.reads })
    }
}

pin_project_lite::pin_project! {
    /// Reads the deadline, and then polls the call.
    struct Reading<F> {
        #[pin]
        inner: F,
        reads: usize,
    }
}

impl<F: Future> Future for Reading<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        for _ in 0..*this.reads {
            std::hint::black_box(Context::deadline());
        }
        this.inner.poll(cx)
    }
}

#[derive(Clone, Copy)]
struct Floor;

impl Service<u64> for Floor {
    type Response = u64;
    type Error = <Succeeds as Service<u64>>::Error;
    type Future = TaskLocalFuture<u64, <Succeeds as Service<u64>>::Future>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        NUMBER.scope(request, Succeeds.call(request))
    }
}
