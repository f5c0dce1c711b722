//! moka: a cache whose calls with one key share one computation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use moka::future::Cache;
use tower::Service;

use crate::patterns::idempotency::{Find, KEPT, LIFETIME};
use crate::workload::Failure;

#[derive(Clone)]
pub struct Cached<S> {
    inner: S,
    find: Find,
    cache: Cache<Arc<str>, u64>,
}

impl<S> Cached<S> {
    pub fn new(inner: S, find: Find) -> Self {
        let cache = Cache::builder().max_capacity(KEPT as u64).time_to_live(LIFETIME).build();
        Self { inner, find, cache }
    }
}

impl<S> Service<u64> for Cached<S>
where
    S: Service<u64, Response = u64, Error = Failure, Future: Send + 'static> + Clone + Send,
    S: 'static,
{
    type Response = u64;
    type Error = Arc<Failure>;
    type Future = Pin<Box<dyn Future<Output = Result<u64, Arc<Failure>>> + Send>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Arc<Failure>>> {
        self.inner.poll_ready(cx).map_err(Arc::new)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        let (text, mut inner) = ((self.find)(&request), self.inner.clone());
        let cache = self.cache.clone();
        Box::pin(async move {
            // Asked with what is borrowed first: it needs no key of its own.
            if let Some(answer) = cache.get(text.as_str()).await {
                return Ok(answer);
            }
            cache.try_get_with(text.as_str().into(), async move { inner.call(request).await }).await
        })
    }
}
