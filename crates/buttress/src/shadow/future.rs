use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::compare::Compare;
use super::mirror;
use super::shared::{End, Shared};
use crate::context::Context as RequestContext;
use crate::machinery::caught::caught;
use crate::retry::CloneRequest;
use crate::split::{Ending, Judge};

pin_project! {
    /// The response of a [`Shadow`](super::Shadow). Dropping it cancels the call of the primary. Then nothing is
    /// mirrored.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, N, Req, Q, C, J> {
        #[pin]
        primary: F,
        // `None` if the request is not mirrored, and once the primary has answered.
        plan: Option<Plan<N, Req, Q, C, J>>,
    }

    impl<F, N, Req, Q, C, J> PinnedDrop for ResponseFuture<F, N, Req, Q, C, J> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(plan) = this.project().plan.take() {
                let _drop = caught(|| drop(plan));
            }
        }
    }
}

/// The parts that a mirrored call needs.
pub(super) struct Plan<N, Req, Q, C, J> {
    pub mirror: N,
    pub request: Req,
    pub copy: Q,
    pub compare: C,
    pub judge: J,
    pub shared: Arc<Shared>,
}

impl<F, N, Req, Q, C, J> ResponseFuture<F, N, Req, Q, C, J> {
    #[inline(always)]
    pub(super) fn new(primary: F, plan: Option<Plan<N, Req, Q, C, J>>) -> Self {
        Self { primary, plan }
    }
}

impl<F, N, Req, Q, C, J, Res, E> Future for ResponseFuture<F, N, Req, Q, C, J>
where
    F: Future<Output = Result<Res, E>>,
    N: Service<Req, Response = Res, Error = E, Future: Send> + Send + 'static,
    Req: Send + 'static,
    Q: CloneRequest<Req>,
    C: Compare<Res, E, Note: Send, Comparing: Send> + Send + 'static,
    J: Judge<Res, E>,
    Res: Send,
    E: Send,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.primary.poll(cx));
        if let Some(plan) = this.plan.take() {
            let _begun = caught(|| plan.begin(&answer));
        }
        Poll::Ready(answer)
    }
}

impl<N, Req, Q, C, J> Plan<N, Req, Q, C, J> {
    /// Starts the mirrored call, unless the primary never had the request, the copy cannot be sent, or there is no slot.
    ///
    /// # Panics
    /// If the judge, the copier or the executor panics, or a value that is dropped here.
    #[cold]
    fn begin<Res, E>(self, answer: &Result<Res, E>)
    where
        N: Service<Req, Response = Res, Error = E, Future: Send> + Send + 'static,
        Req: Send + 'static,
        Q: CloneRequest<Req>,
        C: Compare<Res, E, Note: Send, Comparing: Send> + Send + 'static,
        J: Judge<Res, E>,
        Res: Send,
        E: Send,
    {
        let Self { mirror, request, copy, compare, judge, shared } = self;
        if judge.judge(answer) == Ending::Unsent {
            return;
        }
        // The primary reads the body first. The mirror gets it only if the whole body was recorded meanwhile.
        if !copy.is_repeatable(&request) {
            shared.dropped();
            return;
        }
        let Some(slot) = shared.slot() else { return };
        let Some(note) = caught(|| compare.note(answer)) else {
            slot.end(&End::Panicked);
            return;
        };
        let context = RequestContext::current().without_deadline();
        let task = context.scope(mirror::run(slot, mirror, request, note, compare));
        // A task that does not start is dropped, and counts as abandoned.
        let _started = shared.config.spawner.try_spawn(task);
    }
}

impl<F, N, Req, Q, C, J> fmt::Debug for ResponseFuture<F, N, Req, Q, C, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrored = self.plan.is_some();
        f.debug_struct("ResponseFuture").field("mirrored", &mirrored).finish_non_exhaustive()
    }
}
