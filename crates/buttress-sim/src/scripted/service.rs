use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use buttress::{Clock, Sleep};
use tower::Service;

use super::script::{Ended, Script, Step, Wait};
use crate::ended::polled_after_completion;

/// A service that follows a [`Script`].
///
/// # Panics
/// A call of a value that was not polled ready panics, because it breaks the contract of tower.
pub struct Scripted<Req, Res, E> {
    script: Script<Req, Res, E>,
    ready: bool,
}

impl<Req, Res, E> Scripted<Req, Res, E> {
    /// Creates a service and its script. Delays wait on `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> (Self, Script<Req, Res, E>) {
        let script = Script::new(clock);
        (Self { script: script.clone(), ready: false }, script)
    }
}

impl<Req, Res, E> Clone for Scripted<Req, Res, E> {
    /// The clone has to be polled ready itself.
    fn clone(&self) -> Self {
        Self { script: self.script.clone(), ready: false }
    }
}

impl<Req, Res, E> Service<Req> for Scripted<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = ScriptedFuture<Req, Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut state = self.script.lock();
        if let Some(error) = state.ready_error.take() {
            return Poll::Ready(Err(error));
        }
        if !state.ready {
            state.parked.push(cx.waker().clone());
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        let (call, step) = self.script.begin(request);
        let sleep = match step.wait {
            Wait::For(delay) => Some(Box::pin(self.script.clock.sleep(delay))),
            Wait::None | Wait::UntilOpen | Wait::Ever => None,
        };
        ScriptedFuture { script: Some(self.script.clone()), call, step: Some(step), sleep }
    }
}

/// The response of a [`Scripted`] service. The script records a drop of it.
#[must_use = "futures do nothing unless polled"]
pub struct ScriptedFuture<Req, Res, E> {
    /// `None` after the end.
    script: Option<Script<Req, Res, E>>,
    call: usize,
    step: Option<Step<Res, E>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

// Nothing in it is pinned in place: the sleep has its own box.
impl<Req, Res, E> Unpin for ScriptedFuture<Req, Res, E> {}

impl<Req, Res, E> Future for ScriptedFuture<Req, Res, E> {
    type Output = Result<Res, E>;

    #[expect(clippy::panic, reason = "the script says so")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (Some(script), Some(step)) = (&this.script, &mut this.step) else {
            polled_after_completion("ScriptedFuture")
        };
        match step.wait {
            // The script says that no answer comes, so there is nothing to be woken for.
            Wait::Ever => return Poll::Pending,
            Wait::UntilOpen => {
                let mut state = script.lock();
                if !state.opened {
                    state.parked.push(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            Wait::For(_) => {
                if let Some(sleep) = &mut this.sleep {
                    ready!(sleep.as_mut().poll(cx));
                }
            }
            Wait::None => {}
        }
        let Some(result) = step.result.take() else { panic!("the script panics here") };
        script.end(this.call, if result.is_ok() { Ended::Answered } else { Ended::Failed });
        this.script = None;
        Poll::Ready(result)
    }
}

impl<Req, Res, E> Drop for ScriptedFuture<Req, Res, E> {
    fn drop(&mut self) {
        if let Some(script) = &self.script {
            script.end(self.call, Ended::Dropped);
        }
    }
}

impl<Req, Res, E> fmt::Debug for Scripted<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("script", &self.script).finish_non_exhaustive()
    }
}

impl<Req, Res, E> fmt::Debug for ScriptedFuture<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedFuture").field("call", &self.call).finish_non_exhaustive()
    }
}
