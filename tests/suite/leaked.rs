//! Leaked layers: they behave as counted layers do, and keep their state forever.

use std::sync::{Arc, Weak};
use std::time::Duration;

use buttress::fallback::{self, FallbackLayer};
use buttress::retry::{self, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{AnyError, Event, Name};
use tower::{BoxError, Layer, Service, ServiceExt};

/// An observer, and whether a layer still holds it.
fn observer() -> (impl Fn(Name, &Event) + Send + Sync + 'static, Weak<()>) {
    let held = Arc::new(());
    let seen = Arc::downgrade(&held);
    (
        move |_: Name, _: &Event| {
            let _ = &held;
        },
        seen,
    )
}

/// Drops the layer and its service while a call runs, then the call. Returns whether the state
/// still exists.
async fn keeps<S>(layer: impl Layer<Slow, Service = S>, observer: Weak<()>) -> bool
where
    S: Service<(), Response = (), Error = BoxError>,
{
    let mut service = layer.layer(Slow);
    drop(layer);
    let call = service.ready().await.expect("it is ready").call(());
    drop(service);
    assert!(observer.upgrade().is_some(), "a call keeps the state");
    call.await.expect("the call succeeds");
    observer.upgrade().is_some()
}

#[derive(Clone)]
struct Slow;

impl Service<()> for Slow {
    type Response = ();
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(())
        })
    }
}

macro_rules! both_ways {
    ($name:ident, $layer:expr) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let make = $layer;
            let (given, seen) = observer();
            assert!(!keeps(make(given), seen).await, "counted: the state ends with the last call");
            let (given, seen) = observer();
            assert!(keeps(make(given).leak(), seen).await, "leaked: the state is kept");
        }
    };
}

both_ways!(a_retry_keeps_its_state_only_if_it_is_leaked, |observer| {
    RetryLayer::new(retry::Config::new().observer(observer)).expect("valid")
});
both_ways!(a_time_limit_keeps_its_state_only_if_it_is_leaked, |observer| {
    let config = time_limit::Config::new(Duration::from_secs(1)).observer(observer);
    TimeLimitLayer::new(config).expect("valid")
});
both_ways!(a_fallback_keeps_its_state_only_if_it_is_leaked, |observer| {
    FallbackLayer::value(()).config(fallback::Config::new().observer(observer))
});

#[tokio::test(start_paused = true)]
async fn leaked_layers_decide_as_counted_ones_and_share_their_state_with_the_handle() {
    let fails = || tower::service_fn(async |(): ()| Err::<u32, BoxError>("down".into()));
    let layer = RetryLayer::default().classify(AnyError).leak();
    let handle = layer.handle();
    let both = [layer.layer(fails()), layer.clone().layer(fails())];
    for service in both {
        assert!(service.oneshot(()).await.is_err());
    }
    assert_eq!((handle.stats().retries, handle.stats().exhausted), (4, 2));

    let layer = FallbackLayer::value(7).leak();
    let handle = layer.handle();
    assert_eq!(layer.layer(fails()).oneshot(()).await.expect("the fallback answers"), 7);
    assert_eq!(handle.stats().used, 1);

    let layer = TimeLimitLayer::after(Duration::from_millis(5)).leak();
    let handle = layer.handle();
    let never = tower::service_fn(async |(): ()| {
        std::future::pending::<()>().await;
        Ok::<(), BoxError>(())
    });
    let error = layer.layer(never).oneshot(()).await.expect_err("the limit ends it");
    assert!(error.to_string().contains("5ms"), "{error}");
    assert_eq!(handle.stats().timed_out, 1);
}
