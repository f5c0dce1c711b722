use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_durable::saga::Call;
use tower::{Service, ServiceExt};

use super::steps::{Injected, StepFault, StepFaults};
use crate::crash::Side;

/// The service of a step with faults. Made by [`StepFaults::around`].
#[derive(Clone)]
pub struct FaultyStep<S, M> {
    faults: StepFaults,
    service: S,
    to_error: M,
}

impl<S, M> FaultyStep<S, M> {
    pub(super) const fn new(faults: StepFaults, service: S, to_error: M) -> Self {
        Self { faults, service, to_error }
    }
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, M, R> Service<Call<R>> for FaultyStep<S, M>
where
    S: Service<Call<R>, Response: Send + 'static, Error: Send + 'static, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    M: Fn(Injected) -> S::Error,
    R: Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    /// Decides on the fault. The service is called here, unless the fault comes before its call.
    fn call(&mut self, call: Call<R>) -> Self::Future {
        let step = call.key().step().as_str();
        let Some(fault) = self.faults.decide(call.key()) else {
            return Box::pin(self.service.call(call));
        };
        let fail = |injected| -> Self::Future {
            Box::pin(std::future::ready(Err((self.to_error)(injected))))
        };
        match fault {
            StepFault::Fail(text) => fail(Injected::definite(text)),
            StepFault::DoubtBefore => fail(Injected::in_doubt("the request was lost")),
            StepFault::DoubtAfter => {
                let error = (self.to_error)(Injected::in_doubt("the answer was lost"));
                let called = self.service.call(call);
                Box::pin(async move {
                    drop(called.await);
                    Err(error)
                })
            }
            StepFault::Repeat => {
                let (again, repetition) = (self.service.clone(), call.clone());
                let called = self.service.call(call);
                Box::pin(async move {
                    drop(called.await);
                    again.oneshot(repetition).await
                })
            }
            StepFault::HangBefore => Box::pin(pending()),
            StepFault::HangAfter => then_never(self.service.call(call), || {}),
            StepFault::CrashBefore(process) => Box::pin(async move {
                process.crash(step, Side::Before);
                pending().await
            }),
            StepFault::CrashAfter(process) => then_never(self.service.call(call), move || {
                process.crash(step, Side::After);
            }),
        }
    }
}

/// Waits for `called`, runs `then`, and never ends.
fn then_never<T, E, F>(called: F, then: impl FnOnce() + Send + 'static) -> Answer<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    Box::pin(async move {
        drop(called.await);
        then();
        pending().await
    })
}

impl<S: fmt::Debug, M> fmt::Debug for FaultyStep<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStep")
            .field("faults", &self.faults)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
