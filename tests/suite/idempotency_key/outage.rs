//! A store that becomes unavailable.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{Request, Response};
use buttress::StoreError;
use buttress::idempotency::{Config, MemoryStore, StoreFailure};
use buttress_http::{IdempotencyKeyLayer, Respond};
use buttress_sim::hooked::{Hook, Hooked, Run};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};

use super::brief;

/// While it is set, the store is unavailable.
#[derive(Clone, Default)]
struct Away(Arc<AtomicBool>);

impl<O: Send + 'static> Hook<O> for Away {
    async fn around<T: Any + Send>(&self, _: O, run: Run<T>) -> Result<T, StoreError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(StoreError::transient("unavailable"));
        }
        run.await
    }
}

fn layer(config: Config, away: &Away) -> IdempotencyKeyLayer<Respond> {
    let store = Hooked::new(MemoryStore::default(), away.clone());
    IdempotencyKeyLayer::unscoped(config, store).unwrap()
}

/// Sends the same request through `layer`. The answer holds the number of the call.
async fn ask(layer: &IdempotencyKeyLayer<Respond>, calls: &Arc<AtomicUsize>) -> Response<String> {
    let calls = calls.clone();
    let service = layer.layer(service_fn(move |_: Request<Body>| {
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok::<_, Infallible>(Response::new(Body::from(format!("call {call}")))) }
    }));
    let request = Request::post("/pay").header("idempotency-key", "a").body(Body::from("7"));
    let (head, body) = service.oneshot(request.unwrap()).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_store_is_answered_503_or_ignored_as_configured() {
    let (away, calls) = (Away::default(), Arc::default());
    let closed = layer(IdempotencyKeyLayer::config(), &away);
    assert_eq!(brief(&ask(&closed, &calls).await), (200, "call 1", false));
    away.0.store(true, Ordering::SeqCst);
    let refused = ask(&closed, &calls).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.body().contains(r#""kind":"store-unavailable""#), "{refused:?}");
    away.0.store(false, Ordering::SeqCst);
    assert_eq!(brief(&ask(&closed, &calls).await), (200, "call 1", true));

    away.0.store(true, Ordering::SeqCst);
    let open = layer(IdempotencyKeyLayer::config().store_failure(StoreFailure::Open), &away);
    assert_eq!(brief(&ask(&open, &calls).await), (200, "call 2", false));
    assert_eq!(open.handle().stats().unprotected, 1);
}
