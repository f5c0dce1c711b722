//! A service that follows a script, and counts its calls and polls.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use buttress::{Clock, Sleep};
use tower::Service;

use super::log::{Log, Readiness, Step};
use super::{AppError, Ask, Failure, ms};

/// A service that follows a [`Log`]. Calling a value that was not polled ready panics.
pub(crate) struct Scripted<E = AppError, Req = Ask> {
    log: Log,
    ready: bool,
    types: PhantomData<fn(Req) -> E>,
}

impl Scripted {
    pub(crate) fn new() -> (Self, Log) {
        Self::of()
    }
}

impl<E, Req> Scripted<E, Req> {
    /// Returns a service with an error and a request type of the test's choice.
    pub(crate) fn of() -> (Self, Log) {
        let log = Log::new();
        (Self { log: log.clone(), ready: false, types: PhantomData }, log)
    }
}

impl<E, Req> Clone for Scripted<E, Req> {
    fn clone(&self) -> Self {
        self.log.lock().clones += 1;
        Self { log: self.log.clone(), ready: false, types: PhantomData }
    }
}

impl<E, Req> fmt::Debug for Scripted<E, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl<E: Failure, Req> Service<Req> for Scripted<E, Req> {
    type Response = u32;
    type Error = E;
    type Future = Call<E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut script = self.log.lock();
        script.ready_polls += 1;
        match script.readiness {
            Readiness::Ready => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
            Readiness::Pending => {
                script.parked.push(cx.waker().clone());
                Poll::Pending
            }
            Readiness::Fails => {
                script.readiness = Readiness::Ready;
                Poll::Ready(Err(E::broken("not ready")))
            }
            Readiness::Panics => {
                script.readiness = Readiness::Ready;
                drop(script);
                panic!("scripted panic in poll_ready");
            }
        }
    }

    fn call(&mut self, _request: Req) -> Call<E> {
        assert!(
            std::mem::take(&mut self.ready),
            "contract: called on a value that was not polled ready"
        );
        let mut script = self.log.lock();
        let step = script.steps.pop_front().unwrap_or(script.otherwise);
        let now = Clock::default().now();
        let since = now.duration_since(script.start).as_millis() as u64;
        script.at.push(since);
        let number = script.at.len() as u32;
        if step == Step::PanicInCall {
            drop(script);
            panic!("scripted panic in call");
        }
        script.live += 1;
        script.running += 1;
        script.peak = script.peak.max(script.running);
        let due = match step {
            Step::AnswerAfter(wait) | Step::FailAfter(wait) => Some(now + ms(wait)),
            _ => None,
        };
        let log = self.log.clone();
        Call { log, step, number, due, sleep: None, polls: 0, done: false, types: PhantomData }
    }
}

/// The response of a [`Scripted`] service. Polling it after its end panics.
pub(crate) struct Call<E> {
    log: Log,
    step: Step,
    number: u32,
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    polls: u32,
    done: bool,
    types: PhantomData<fn() -> E>,
}

impl<E: Failure> Call<E> {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32, E>> {
        if let Some(due) = self.due {
            let sleep =
                self.sleep.get_or_insert_with(|| Box::pin(Clock::default().sleep_until(due)));
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        match self.step {
            Step::Answer | Step::AnswerAfter(_) => Poll::Ready(Ok(self.number)),
            Step::Fail | Step::FailAfter(_) => Poll::Ready(Err(E::broken("scripted failure"))),
            Step::PanicAtPoll(number) if self.polls == number => panic!("scripted panic in poll"),
            Step::Held if self.log.lock().opened => Poll::Ready(Ok(self.number)),
            Step::Held | Step::Never | Step::PanicInCall | Step::PanicAtPoll(_) => {
                self.log.lock().parked.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<E: Failure> Future for Call<E> {
    type Output = Result<u32, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.done, "contract: polled after it completed");
        self.polls += 1;
        self.log.lock().polls += 1;
        let polled = self.step(cx);
        if polled.is_ready() {
            self.done = true;
            self.log.lock().running -= 1;
        }
        polled
    }
}

impl<E> Drop for Call<E> {
    fn drop(&mut self) {
        let mut script = self.log.lock();
        script.live -= 1;
        script.running -= usize::from(!self.done);
    }
}
