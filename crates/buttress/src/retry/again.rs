//! The attempts after the first.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower::Service;

use super::clone_request::CloneRequest;
use super::shared::{Decided, Shared};
use super::state::{Attempts, Failure};
use crate::context;
use crate::machinery::ended::polled_after_completion;
use crate::machinery::own::Own;
use crate::vocabulary::classify::{Classify, Outcome};
use crate::vocabulary::clock::Sleep;

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// The parts that attempts after the first need.
pub(super) struct Spare<S, Req, C, Q> {
    /// The service and the request of the next attempt. `None` if no attempt can follow.
    pub next: Option<(S, Req)>,
    pub classify: C,
    pub clone: Q,
    /// When the first attempt began. Read only if the total time counts.
    pub started: Option<Instant>,
}

impl<S, Req, C: Clone, Q: Clone> Spare<S, Req, C, Q> {
    /// Moves the parts for the next attempt out of their pinned place.
    pub(super) fn take(&mut self) -> Self {
        let (classify, clone) = (self.classify.clone(), self.clone.clone());
        Self { next: self.next.take(), classify, clone, started: self.started }
    }
}

pin_project! {
    /// Makes attempts until one succeeds or none is left.
    pub(super) struct Again<S, Req, C, Q, O>
    where
        S: Service<Req>,
        O: Own,
    {
        #[pin]
        phase: Phase<S::Future, O>,
        attempts: Attempts,
        spare: Spare<S, Req, C, Q>,
        shared: O::Of<Shared>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F, O>
    where
        O: Own,
    {
        Calling { #[pin] future: F },
        Waiting { #[pin] sleep: Sleep, decided: Option<Decided<O::Of<Shared>>> },
        // Waits until the service of the next attempt is ready.
        Readying { decided: Option<Decided<O::Of<Shared>>> },
    }
}

impl<S, Req, C, Q, O> Again<S, Req, C, Q, O>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Q: CloneRequest<Req>,
    O: Own,
{
    /// Returns the attempts after a first one that failed with `result`. Returns `result` if no
    /// attempt follows.
    #[inline(never)]
    pub(super) fn after(
        spare: Spare<S, Req, C, Q>,
        shared: O::Of<Shared>,
        result: Answer<S, Req>,
    ) -> Result<Pin<Box<Self>>, Answer<S, Req>> {
        let mut attempts = Attempts::begin(spare.started, context::deadline());
        match spare.next_phase(&shared, &mut attempts, &result) {
            Some(phase) => Ok(Box::pin(Self { phase, attempts, spare, shared })),
            None => Err(result),
        }
    }
}

impl<S: Service<Req>, Req, C, Q, O: Own> Again<S, Req, C, Q, O> {
    /// Returns the number of the current attempt.
    pub(super) fn attempt(&self) -> u32 {
        self.attempts.number()
    }
}

impl<S, Req, C, Q> Spare<S, Req, C, Q>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Q: CloneRequest<Req>,
{
    /// Returns the next phase after an attempt that failed with `result`. `None` if no attempt
    /// follows.
    fn next_phase<O: Own>(
        &self,
        shared: &O::Of<Shared>,
        attempts: &mut Attempts,
        result: &Answer<S, Req>,
    ) -> Option<Phase<S::Future, O>> {
        let hint = self.classify.retry_after(result);
        let copy = self.next.as_ref().map(|(_, copy)| copy);
        let is_repeatable = copy.is_some_and(|copy| self.clone.is_repeatable(copy));
        let failure = Failure { is_repeatable, hint };
        let commit = || copy.is_some_and(|copy| self.clone.commit(copy));
        let (delay, decided) = Shared::next::<O>(shared, attempts, failure, commit)?;
        let decided = Some(decided);
        if delay.is_zero() {
            return Some(Phase::Readying { decided });
        }
        Some(Phase::Waiting { sleep: shared.common.clock.sleep(delay), decided })
    }
}

impl<S, Req, C, Q, O> Future for Again<S, Req, C, Q, O>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Q: CloneRequest<Req>,
    O: Own,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(never)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next_phase = match this.phase.as_mut().project() {
                PhaseProj::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    if this.spare.classify.classify(&result) != Outcome::Failure {
                        return Poll::Ready(result);
                    }
                    match this.spare.next_phase(this.shared, this.attempts, &result) {
                        Some(phase) => phase,
                        None => return Poll::Ready(result),
                    }
                }
                PhaseProj::Waiting { sleep, decided } => {
                    ready!(sleep.poll(cx));
                    Phase::Readying { decided: decided.take() }
                }
                PhaseProj::Readying { decided } => {
                    // Attempts that neither wait nor pend must let other tasks run.
                    ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
                    let Spare { next, clone, .. } = &mut *this.spare;
                    // A next service exists: without one the last failure is returned before.
                    let Some((service, _)) = next else {
                        polled_after_completion("retry::ResponseFuture")
                    };
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        if let Some(decided) = decided.take() {
                            decided.unready();
                        }
                        return Poll::Ready(Err(error));
                    }
                    let Some((mut service, mut request)) = next.take() else {
                        polled_after_completion("retry::ResponseFuture")
                    };
                    let number = this.attempts.number();
                    let repeats = this.shared.may_repeat(number);
                    let spare = repeats.then(|| clone.clone_request(&request)).flatten();
                    clone.stamp(&mut request, number);
                    if let Some(decided) = decided.take() {
                        decided.made();
                    }
                    let future = service.call(request);
                    *next = spare.map(|spare| (service, spare));
                    Phase::Calling { future }
                }
            };
            this.phase.set(next_phase);
        }
    }
}
