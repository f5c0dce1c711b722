//! Leaked layers: they behave as counted layers do, and keep their state forever.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::fallback::{self, FallbackLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{AnyError, CircuitState, Error, ErrorKind, Event, Name};
use tower::util::ServiceFn;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

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
async fn keeps<S>(layer: impl Layer<Slow, Service = S>, observer: Weak<()>) -> [bool; 2]
where
    S: Service<(), Response = (), Error = BoxError>,
{
    let mut service = layer.layer(slow());
    drop(layer);
    let call = service.ready().await.expect("it is ready").call(());
    drop(service);
    let while_it_runs = observer.upgrade().is_some();
    call.await.expect("the call succeeds");
    [while_it_runs, observer.upgrade().is_some()]
}

type Slow = ServiceFn<fn(()) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>>;

/// A service that answers at its second poll.
fn slow() -> Slow {
    service_fn(|()| {
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(())
        })
    })
}

macro_rules! both_ways {
    ($name:ident, $layer:expr) => {
        both_ways!($name, $layer, counted: true);
    };
    ($name:ident, $layer:expr, counted: $counted:literal) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let make = $layer;
            let (given, seen) = observer();
            let counted = keeps(make(given), seen).await;
            assert_eq!(counted, [$counted, false], "the state ends with the last call");
            let (given, seen) = observer();
            assert_eq!(keeps(make(given).leak(), seen).await, [true; 2], "the state is kept");
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

both_ways!(a_bulkhead_keeps_its_state_only_if_it_is_leaked, |observer| {
    BulkheadLayer::new(bulkhead::Config::new().observer(observer)).expect("valid")
});
// A call holds nothing of a rate limit: its token is spent.
both_ways!(
    a_rate_limit_keeps_its_state_only_if_it_is_leaked,
    |observer| {
        RateLimitLayer::new(rate_limit::Config::new().observer(observer)).expect("valid")
    },
    counted: false
);
both_ways!(a_circuit_breaker_keeps_its_state_only_if_it_is_leaked, |observer| {
    CircuitBreakerLayer::new(circuit_breaker::Config::new().observer(observer)).expect("valid")
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

#[tokio::test(start_paused = true)]
async fn leaked_limits_are_those_of_their_handles() {
    let answers = || tower::service_fn(async |(): ()| Ok::<(), Error>(()));
    let refused = |result: Result<(), Error>| result.expect_err("it is refused").kind();

    let layer = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).expect("valid");
    let counted = layer.clone().layer(answers());
    let layer = layer.leak();
    let handle = layer.handle();
    let mut leaked = layer.layer(answers());
    let call = leaked.ready().await.expect("there is room").call(());
    assert_eq!(handle.stats().active, 1);
    assert_eq!(refused(counted.oneshot(()).await), ErrorKind::BulkheadFull);
    drop(call);
    assert_eq!(handle.stats().active, 0, "a dropped call returns its permit");
    leaked.clone().oneshot(()).await.expect("there is room");
    let _permit = handle.try_acquire().expect("there is room");
    assert_eq!(refused(leaked.oneshot(()).await), ErrorKind::BulkheadFull);

    let layer = RateLimitLayer::new(rate_limit::Config::new().max_tokens(2)).expect("valid");
    let counted = layer.clone().layer(answers());
    let leaked = layer.leak().layer(answers());
    leaked.clone().oneshot(()).await.expect("the first token");
    counted.oneshot(()).await.expect("the second token");
    assert_eq!(refused(leaked.clone().oneshot(()).await), ErrorKind::RateLimited);
    assert_eq!(leaked.handle().stats().refused, 1);

    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let layer = CircuitBreakerLayer::new(config).expect("valid").classify(AnyError).leak();
    let handle = layer.handle();
    let fails = tower::service_fn(async |(): ()| Err::<(), BoxError>("down".into()));
    assert!(layer.layer(fails).oneshot(()).await.is_err());
    assert_eq!(handle.state(), CircuitState::Open);
    assert_eq!(refused(layer.layer(answers()).oneshot(()).await), ErrorKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_leaked_layer_settles_the_call() {
    let panics = || tower::service_fn(async |(): ()| -> Result<(), BoxError> { panic!("down") });
    let bulkhead = BulkheadLayer::default().leak();
    let call = tokio::spawn(bulkhead.layer(panics()).oneshot(()));
    assert!(call.await.expect_err("it panics").is_panic());
    assert_eq!(bulkhead.handle().stats().active, 0);

    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let breaker = CircuitBreakerLayer::new(config).expect("valid").leak();
    let call = tokio::spawn(breaker.layer(panics()).oneshot(()));
    assert!(call.await.expect_err("it panics").is_panic());
    assert_eq!(breaker.handle().state(), CircuitState::Open);
}
