//! Shared helpers: requests, errors, and ways to poll by hand.

pub(crate) mod bombs;
pub(crate) mod harness;
pub(crate) mod lines;
mod log;
mod scripted;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use buttress::{AsRefusal, Clock, Error, ErrorKind, Event, Name, Observer};
use tower::{BoxError, Layer, Service, ServiceExt};

pub(crate) use log::{Log, Step};
pub(crate) use scripted::{Call, Scripted};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A request that can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask(pub(crate) u32);

/// A request that cannot be copied.
#[derive(Debug)]
pub(crate) struct Once;

/// A user's own error, with one variant for a refusal.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("{0}")]
    Broken(&'static str),
}

impl AppError {
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        self.as_refusal().map(Error::kind)
    }

    pub(crate) fn refusal(&self) -> &Error {
        self.as_refusal().expect("a refusal")
    }
}

impl AsRefusal for AppError {
    fn as_refusal(&self) -> Option<&Error> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Broken(_) => None,
        }
    }
}

/// Error types a scripted service can fail with.
pub(crate) trait Failure: Sized {
    fn broken(what: &'static str) -> Self;
}

impl Failure for AppError {
    fn broken(what: &'static str) -> Self {
        Self::Broken(what)
    }
}

impl Failure for BoxError {
    fn broken(what: &'static str) -> Self {
        what.into()
    }
}

impl Failure for Infallible {
    fn broken(what: &'static str) -> Self {
        panic!("the script fails an infallible service: {what}")
    }
}

/// Hides the `Clone` of a service.
#[derive(Debug)]
pub(crate) struct Single<S>(pub(crate) S);

impl<Req, S: Service<Req>> Service<Req> for Single<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.0.call(request)
    }
}

/// An observer that records the events of its layers. Clones share the record.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the events since the last time.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Events {
    fn on_event(&self, _: Name, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A service of two closures: its readiness and its answer.
#[derive(Clone)]
pub(crate) struct ByHand<P, F> {
    pub ready: P,
    pub answer: F,
}

impl<Req, Res, E, P, F> Service<Req> for ByHand<P, F>
where
    P: FnMut(&mut Context<'_>) -> Poll<Result<(), E>>,
    F: FnMut(Req) -> Result<Res, E>,
{
    type Response = Res;
    type Error = E;
    type Future = std::future::Ready<Result<Res, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        (self.ready)(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        std::future::ready((self.answer)(request))
    }
}

/// A task polled by hand that counts how often it is woken.
pub(crate) struct Waiter {
    wakes: Arc<Wakes>,
    waker: Waker,
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Waiter {
    pub(crate) fn new() -> Self {
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        Self { waker: wakes.clone().into(), wakes }
    }

    /// Returns the number of wakes since the last call.
    pub(crate) fn wakes(&self) -> usize {
        self.wakes.0.swap(0, Ordering::SeqCst)
    }

    /// Advances the clock by `wait` milliseconds to the instant at which the task is woken, and
    /// checks that it is not woken before. `pending` polls the future now, and a millisecond before
    /// that instant.
    pub(crate) async fn woken_after(&self, wait: u64, mut pending: impl FnMut(&Self) -> bool) {
        assert!(pending(self));
        tokio::time::advance(ms(wait - 1)).await;
        assert_eq!(self.wakes(), 0, "woken before its time");
        assert!(pending(self));
        tokio::time::advance(ms(1)).await;
        assert_eq!(self.wakes(), 1, "not woken in time");
    }

    pub(crate) fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(&self.waker))
    }

    pub(crate) fn poll_ready<S: Service<Req>, Req>(
        &self,
        service: &mut S,
    ) -> Poll<Result<(), S::Error>> {
        service.poll_ready(&mut Context::from_waker(&self.waker))
    }
}

/// Returns a scripted service behind `layer`, whose first calls do `steps`.
pub(crate) fn behind<L: Layer<Scripted>>(
    layer: &L,
    steps: impl IntoIterator<Item = Step>,
) -> (L::Service, Log) {
    let (inner, log) = Scripted::new();
    log.then(steps);
    (layer.layer(inner), log)
}

/// Polls a service whose inner service fails to become ready.
pub(crate) fn ready_fails<S: Service<Ask>>(service: &mut S, log: &Log) {
    log.fail_ready();
    let polled = Waiter::new().poll_ready(service);
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

/// Calls a service that must be ready immediately.
pub(crate) fn begin<S, Req>(service: &mut S, request: Req) -> Pin<Box<S::Future>>
where
    S: Service<Req>,
    S::Error: fmt::Debug,
{
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))), "not ready: {ready:?}");
    Box::pin(service.call(request))
}

/// Returns the output of a future that must be ready immediately.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let future = pin!(future);
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("no answer yet"),
    }
}

/// Whether a future is still pending. The future must not have ended.
pub(crate) fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Waits until the service is ready and the call has ended.
pub(crate) async fn call<S, Req>(service: &mut S, request: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req>,
{
    service.ready().await?.call(request).await
}

/// Waits for a call that must not hang. A minute of a paused clock passes immediately.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut patience = pin!(Clock::default().sleep(ms(60_000)));
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        assert!(polled.is_ready() || patience.as_mut().poll(cx).is_pending(), "it hangs");
        polled
    })
    .await
}

/// Runs code that must panic, and returns the message.
pub(crate) fn panic_of<T>(run: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { panic!("no panic") };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

/// Runs a test in a paused runtime on a separate thread, and fails if the test deadlocks.
pub(crate) fn without_deadlock<F: Future>(test: impl FnOnce() -> F + Send + 'static) {
    let (reply, replied) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(test());
        reply.send(()).unwrap();
    });
    // The bound is reached only if the test fails.
    let end = replied.recv_timeout(ms(20_000));
    assert_ne!(end, Err(mpsc::RecvTimeoutError::Timeout), "it waits for itself");
    thread.join().unwrap();
}

/// Measures the milliseconds since its creation.
pub(crate) struct Watch(pub(crate) Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(Clock::default().now())
    }

    pub(crate) fn ms(&self) -> u64 {
        Clock::default().now().duration_since(self.0).as_millis() as u64
    }
}
