//! A network between a caller and a service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Rng, Sleep};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::ended::polled_after_completion;
use crate::fault::{Fault, either};
use crate::{Distribution, rng};

/// A network with a delay and a loss of messages. Requests and answers travel separately, so an
/// answer can be lost after the service has done its work.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct Link {
    name: String,
    delay: Option<Distribution>,
    loss: f64,
}

impl Link {
    /// Creates a network without delay or loss.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), delay: None, loss: 0.0 }
    }

    /// Sets the time that each message takes, in either direction. Default: 0.
    pub fn delay(mut self, delay: impl Into<Distribution>) -> Self {
        self.delay = Some(delay.into());
        self
    }

    /// Sets the share of messages that are lost. Default: 0. Between 0 and 1. A caller waits
    /// forever for a lost message unless it has a time limit.
    pub const fn loss(mut self, share: f64) -> Self {
        self.loss = share;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        if (0.0..=1.0).contains(&self.loss) {
            return Ok(());
        }
        Err(InvalidConfig::new("loss", self.loss, "between 0 and 1"))
    }
}

/// A link in a simulation.
pub(crate) struct LinkState {
    link: Link,
    rng: Rng,
    clock: Clock,
    faults: Mutex<Faulty>,
}

#[derive(Default)]
struct Faulty {
    partitioned: bool,
    loss: f64,
    added: Vec<Distribution>,
}

impl LinkState {
    pub(crate) fn new(link: Link, rng: Rng, clock: Clock) -> Arc<Self> {
        Arc::new(Self { link, rng, clock, faults: Mutex::default() })
    }

    pub(crate) fn strike(&self, faults: &[&Fault]) {
        let mut all = Faulty::default();
        for fault in faults {
            match fault {
                Fault::Partition => all.partitioned = true,
                Fault::Loss(share) => all.loss = either(all.loss, *share),
                Fault::Delay(added) => all.added.push(added.clone()),
                _ => {}
            }
        }
        *self.lock() = all;
    }

    /// Returns the delay of a message that is sent now, or `None` if it is lost.
    fn send(&self) -> Option<Sleep> {
        let faults = self.lock();
        if faults.partitioned || rng::happens(&self.rng, either(self.link.loss, faults.loss)) {
            return None;
        }
        let draw = |delay: &Distribution| delay.draw(&self.rng);
        let delays = self.link.delay.iter().chain(&faults.added).map(draw);
        Some(self.clock.sleep(delays.fold(Duration::ZERO, Duration::saturating_add)))
    }

    fn lock(&self) -> MutexGuard<'_, Faulty> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A layer that puts a network in front of a service. Made by [`World::link`](crate::World::link).
#[derive(Clone)]
pub struct LinkLayer {
    state: Arc<LinkState>,
}

impl LinkLayer {
    pub(crate) const fn new(state: Arc<LinkState>) -> Self {
        Self { state }
    }
}

impl<S> Layer<S> for LinkLayer {
    type Service = Linked<S>;

    fn layer(&self, inner: S) -> Linked<S> {
        Linked { inner, state: self.state.clone() }
    }
}

impl fmt::Debug for LinkLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkLayer").field("link", &self.state.link).finish_non_exhaustive()
    }
}

/// A service behind a network. It is always ready. A call finds out at the other end whether the
/// service behind the network is ready.
#[derive(Clone)]
pub struct Linked<S> {
    inner: S,
    state: Arc<LinkState>,
}

impl<S, Req> Service<Req> for Linked<S>
where
    S: Service<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LinkFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> LinkFuture<S, Req> {
        let travel = match self.state.send() {
            Some(sleep) => Travel::Out { sleep },
            None => Travel::Lost,
        };
        let there = Some((self.inner.clone(), request));
        LinkFuture { travel, there, answer: None, state: self.state.clone() }
    }
}

impl<S> fmt::Debug for Linked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linked").field("link", &self.state.link).finish_non_exhaustive()
    }
}

pin_project! {
    /// A call over a [`Link`]. Dropping it disconnects, which cancels the call at the other end
    /// immediately.
    #[must_use = "futures do nothing unless polled"]
    pub struct LinkFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        travel: Travel<S::Future>,
        there: Option<(S, Req)>,
        answer: Option<Result<S::Response, S::Error>>,
        state: Arc<LinkState>,
    }
}

pin_project! {
    #[project = TravelProj]
    enum Travel<F> {
        Out { #[pin] sleep: Sleep },
        There,
        Working { #[pin] future: F },
        Back { #[pin] sleep: Sleep },
        Lost,
    }
}

impl<S, Req> Future for LinkFuture<S, Req>
where
    S: Service<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.travel.as_mut().project() {
                TravelProj::Out { sleep } => {
                    ready!(sleep.poll(cx));
                    Travel::There
                }
                TravelProj::There => {
                    let Some((service, _)) = this.there else {
                        polled_after_completion("LinkFuture")
                    };
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        *this.answer = Some(Err(error));
                        back(this.state)
                    } else {
                        let Some((mut service, request)) = this.there.take() else {
                            polled_after_completion("LinkFuture")
                        };
                        Travel::Working { future: service.call(request) }
                    }
                }
                TravelProj::Working { future } => {
                    *this.answer = Some(ready!(future.poll(cx)));
                    back(this.state)
                }
                TravelProj::Back { sleep } => {
                    ready!(sleep.poll(cx));
                    let Some(answer) = this.answer.take() else {
                        polled_after_completion("LinkFuture")
                    };
                    return Poll::Ready(answer);
                }
                // The answer to a lost message never arrives.
                TravelProj::Lost => return Poll::Pending,
            };
            this.travel.set(next);
        }
    }
}

fn back<F>(state: &LinkState) -> Travel<F> {
    state.send().map_or(Travel::Lost, |sleep| Travel::Back { sleep })
}

impl<S: Service<Req>, Req> fmt::Debug for LinkFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkFuture").field("link", &self.state.link).finish_non_exhaustive()
    }
}
