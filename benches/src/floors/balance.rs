//! A balancer that draws two services and takes the one with fewer pending calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::Service;

#[derive(Clone)]
pub struct Balance<S> {
    services: Arc<[(S, AtomicU32)]>,
    draw: u64,
}

impl<S: Clone> Balance<S> {
    pub fn new(service: S, count: usize) -> Self {
        let services = (0..count).map(|_| (service.clone(), AtomicU32::new(0))).collect();
        Self { services, draw: 1 }
    }
}

pin_project! {
    pub struct Response<S: Service<u64>> {
        #[pin]
        future: S::Future,
        pending: Pending<S>,
    }
}

struct Pending<S> {
    services: Arc<[(S, AtomicU32)]>,
    place: usize,
}

impl<S> Drop for Pending<S> {
    fn drop(&mut self) {
        self.services[self.place].1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Service<u64>> Future for Response<S> {
    type Output = <S::Future as Future>::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx)
    }
}

impl<S: Service<u64> + Clone> Service<u64> for Balance<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Response<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Response<S> {
        // Xorshift (Marsaglia, 2003).
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 7;
        self.draw ^= self.draw << 17;
        let count = self.services.len() as u64;
        let one = (((self.draw & 0xffff_ffff) * count) >> 32) as usize;
        let two = (((self.draw >> 32) * count) >> 32) as usize;
        let pending = |place: usize| self.services[place].1.load(Ordering::Relaxed);
        let place = if pending(two) < pending(one) { two } else { one };
        let (service, count) = &self.services[place];
        count.fetch_add(1, Ordering::Relaxed);
        let future = service.clone().call(request);
        Response { future, pending: Pending { services: self.services.clone(), place } }
    }
}
