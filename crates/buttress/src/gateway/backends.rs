//! The backends of a route, and their turns.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tower::Service;

use crate::machinery::cloned::Cloned;

pub(super) struct Backends<S> {
    services: Vec<Cloned<S>>,
    /// The backend that the next request tries first. A lone value: it orders nothing else.
    turn: AtomicUsize,
}

impl<S: Clone> Backends<S> {
    pub(super) fn new(services: Vec<S>) -> Self {
        let services = services.into_iter().map(Cloned::new).collect();
        Self { services, turn: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.services.len()
    }

    /// Waits for the first backend that is ready, starting with the backend whose turn it is. The
    /// turn then passes to the next backend. Returns `None` if all backends fail to become ready.
    pub(super) async fn ready<Req>(&self) -> Option<(usize, S)>
    where
        S: Service<Req>,
    {
        let first = self.turn.load(Ordering::Relaxed);
        let order = (0..self.len()).map(|place| (first.wrapping_add(place)) % self.len());
        let mut order: Vec<usize> = order.collect();
        // Cloned on demand: usually the first backend is ready.
        let mut asked: Vec<Option<S>> = Vec::new();
        poll_fn(|cx| {
            let mut place = 0;
            while let Some(index) = order.get(place).copied() {
                if asked.len() == place {
                    asked.push(self.services.get(index).map(Cloned::get));
                }
                match poll_ready(asked.get_mut(place), cx) {
                    Poll::Ready(Some(service)) => {
                        self.turn.store(index.wrapping_add(1), Ordering::Relaxed);
                        return Poll::Ready(Some((index, service)));
                    }
                    // It failed and is not polled again.
                    Poll::Ready(None) => {
                        order.remove(place);
                        asked.remove(place);
                    }
                    Poll::Pending => place += 1,
                }
            }
            if order.is_empty() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

/// Returns the service when it is ready, or `None` if it has failed.
fn poll_ready<S: Service<Req>, Req>(
    place: Option<&mut Option<S>>,
    cx: &mut Context<'_>,
) -> Poll<Option<S>> {
    let Some(service) = place else { return Poll::Ready(None) };
    match service.as_mut().map(|service| service.poll_ready(cx)) {
        Some(Poll::Ready(Ok(()))) => Poll::Ready(service.take()),
        Some(Poll::Ready(Err(_))) | None => Poll::Ready(None),
        Some(Poll::Pending) => Poll::Pending,
    }
}
