//! Bulkhead: the running calls, the waiting calls, and the release of permits.

mod line;
mod queued;
mod waiting;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use buttress::ErrorKind;
use buttress::bulkhead::{BulkheadLayer, Config};
use tower::Layer;

use crate::support::{AppError, Ask, Scripted, Step, begin, behind, is_pending, now};

fn bulkhead(config: Config) -> BulkheadLayer {
    BulkheadLayer::new(config).unwrap()
}

fn one() -> Config {
    Config::new().max_concurrent(1)
}

#[tokio::test(start_paused = true)]
async fn the_default_runs_ten_and_refuses_the_eleventh() {
    let layer = BulkheadLayer::default();
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Held);
    let mut running: Vec<_> = (0..10).map(|n| begin(&mut service, Ask(n))).collect();
    assert!(running.iter_mut().all(is_pending));
    let error = now(begin(&mut service, Ask(10))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull));
    assert_eq!(error.refusal().retry_after(), None);
    assert_eq!(error.to_string(), "bulkhead at capacity (10 concurrent calls)");
    log.open();
    running.into_iter().for_each(|call| assert!(now(call).is_ok()));
    assert!(now(begin(&mut service, Ask(11))).is_ok());
    let stats = layer.handle().stats();
    assert_eq!((stats.active, stats.peak_active, stats.refused), (0, 10, 1));
    assert_eq!(log.peak(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_over_when_its_future_is_ready_though_it_is_kept() {
    let layer = bulkhead(one());
    let (mut service, _log) = behind(&layer, []);
    let mut kept = begin(&mut service, Ask(0));
    assert_eq!(layer.handle().stats().active, 1);
    assert!(!is_pending(&mut kept));
    assert_eq!(layer.handle().stats().active, 0, "as in join_all, which keeps finished futures");
    assert!(now(begin(&mut service, Ask(1))).is_ok());
    drop(kept);
    assert_eq!(layer.handle().stats().active, 0, "released once");
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_gives_its_permit_back() {
    let (mut service, _) = behind(&bulkhead(one()), [Step::Fail]);
    assert_eq!(now(begin(&mut service, Ask(0))), Err(AppError::Broken("scripted failure")));
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(2));
}

/// The number of permits in use when the inner call was dropped.
struct Watched {
    layer: BulkheadLayer,
    active: Arc<Mutex<Vec<u32>>>,
}

impl Future for Watched {
    type Output = Result<u32, AppError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.active.lock().unwrap().push(self.layer.handle().stats().active);
    }
}

#[tokio::test(start_paused = true)]
async fn on_cancellation_the_inner_call_is_dropped_before_its_permit() {
    let (layer, active) = (bulkhead(one()), Arc::default());
    let (watched, seen) = (layer.clone(), Arc::clone(&active));
    let inner = tower::service_fn(move |_: Ask| Watched {
        layer: watched.clone(),
        active: Arc::clone(&seen),
    });
    let mut response = begin(&mut layer.layer(inner), Ask(0));
    assert!(is_pending(&mut response));
    drop(response);
    assert_eq!(*active.lock().unwrap(), [1], "still held when the work was stopped");
    assert_eq!(layer.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_is_met_as_calls_end() {
    let layer = bulkhead(Config::new().max_concurrent(3));
    let handle = layer.handle();
    let mut running: Vec<_> = (0..3).map(|_| handle.try_acquire().unwrap()).collect();
    handle.resize(1).unwrap();
    assert_eq!(handle.stats().active, 3, "running calls are not disturbed");
    for _ in 0..2 {
        running.pop();
        let error = handle.try_acquire().unwrap_err();
        assert_eq!(error.to_string(), "bulkhead at capacity (1 concurrent call)");
    }
    running.pop();
    let _permit = handle.try_acquire().unwrap();
    assert_eq!(handle.resize(0).unwrap_err().field(), "max-concurrent");
    assert_eq!(handle.stats().max_concurrent, 1);
}

#[tokio::test(start_paused = true)]
async fn eight_services_of_one_layer_share_the_limit() {
    let layer = bulkhead(Config::new().max_concurrent(3));
    let (inner, log) = Scripted::new();
    log.always(Step::Held);
    let mut calls: Vec<_> =
        (0..8).map(|n| begin(&mut layer.clone().layer(inner.clone()), Ask(n))).collect();
    let running = calls.iter_mut().filter_map(|call| is_pending(call).then_some(())).count();
    assert_eq!((running, log.calls(), layer.handle().stats().refused), (3, 3, 5));
}

#[tokio::test(start_paused = true)]
async fn two_that_were_ready_for_the_last_permit_get_one() {
    let (inner, log) = Scripted::new();
    log.always(Step::Held);
    let layer = bulkhead(one());
    let (mut a, mut b) = (layer.layer(inner.clone()), layer.layer(inner));
    let waiter = crate::support::Waiter::new();
    assert!(waiter.poll_ready(&mut a).is_ready());
    assert!(waiter.poll_ready(&mut b).is_ready());
    let mut first = Box::pin(tower::Service::call(&mut a, Ask(0)));
    assert!(is_pending(&mut first));
    let error = now(tower::Service::call(&mut b, Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull));
    assert_eq!(log.calls(), 1);
}
