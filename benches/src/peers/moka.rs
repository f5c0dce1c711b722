//! moka: a cache whose calls with one key share one computation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use moka::future::Cache;
use tower::Service;

use crate::patterns::idempotency::{Asked, Find, KEPT, LIFETIME};
use crate::workload::Failure;

#[derive(Clone)]
pub struct Cached<S, T> {
    inner: S,
    find: Find<T>,
    cache: Cache<Arc<str>, u64>,
}

impl<S, T> Cached<S, T> {
    pub fn new(inner: S, find: Find<T>) -> Self {
        let cache = Cache::builder().max_capacity(KEPT as u64).time_to_live(LIFETIME).build();
        Self { inner, find, cache }
    }
}

impl<S, T: Asked> Service<u64> for Cached<S, T>
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
        let (asked, mut inner) = ((self.find)(&request), self.inner.clone());
        let cache = self.cache.clone();
        Box::pin(async move {
            // The first lookup uses the borrowed key, so it needs no owned one.
            if let Some(answer) = cache.get(asked.as_str()).await {
                return Ok(answer);
            }
            cache.try_get_with(asked.into_key(), async move { inner.call(request).await }).await
        })
    }
}
