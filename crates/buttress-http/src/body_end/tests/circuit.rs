//! How the outcome of a circuit breaker follows a body.

use super::*;

fn breaker() -> CircuitBreakerLayer<AnyError> {
    let config = circuit_breaker::Config::new().consecutive_failures(1).count_calls(true);
    config.build().unwrap().classify(AnyError)
}

/// The failures and successes that a circuit counted.
fn counted(handle: &circuit_breaker::Handle) -> (u64, u64) {
    let stats = handle.stats();
    (stats.failures, stats.successes.unwrap())
}

fn stream() -> Response<Script> {
    Response::new(script([Data("a"), Data("b")]))
}

fn grpc(body: Script) -> Response<Script> {
    Response::builder().header("content-type", "application/grpc+proto").body(body).unwrap()
}

fn grpc_status(code: &'static str) -> Step {
    let code = HeaderValue::from_static(code);
    Trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), code)]))
}

#[tokio::test]
async fn without_the_choice_a_body_that_breaks_off_is_a_success() {
    let layer = breaker();
    let mut response = call(&layer, Response::new(script([Error]))).await;
    assert_eq!(counted(&layer.handle()), (0, 1));
    assert!(matches!(poll(&mut response), Poll::Ready(Some(Err(_)))));
    assert_eq!(counted(&layer.handle()), (0, 1));
}

#[tokio::test]
async fn a_body_that_ends_is_a_success_and_one_that_breaks_off_a_failure() {
    let layer = breaker().until(BodyEnd::new());
    let handle = layer.handle();
    let mut response = call(&layer, stream()).await;
    data(&mut response);
    data(&mut response);
    assert_eq!(counted(&handle), (0, 0), "it is not known yet");
    assert!(matches!(poll(&mut response), Poll::Ready(None)));
    assert_eq!(counted(&handle), (0, 1));

    let mut response = call(&layer, Response::new(script([Data("a"), Error]))).await;
    data(&mut response);
    assert_eq!(handle.state(), CircuitState::Closed);
    assert!(matches!(poll(&mut response), Poll::Ready(Some(Err(_)))));
    assert_eq!((handle.state(), counted(&handle)), (CircuitState::Open, (1, 1)));
    drop(response);
    assert_eq!(counted(&handle), (1, 1), "once");
}

#[tokio::test]
async fn a_body_that_the_reader_drops_counts_as_dropped_also_in_a_panic_of_the_reader() {
    let layer = breaker().until(BodyEnd::new());
    let handle = layer.handle();
    let mut response = call(&layer, stream()).await;
    data(&mut response);
    drop(response);
    assert_eq!(counted(&handle), (0, 0), "not counted by default");

    let response = call(&layer, stream()).await;
    let reader = AssertUnwindSafe(|| {
        let _response = response;
        panic!("in the reader");
    });
    assert!(catch_unwind(reader).is_err());
    assert_eq!(counted(&handle), (0, 0), "the service did not panic");

    let config = circuit_breaker::Config::new().dropped_calls(Outcome::Failure);
    handle.reconfigure(&config).unwrap();
    drop(call(&layer, stream()).await);
    assert_eq!(counted(&handle), (1, 0));
}

#[tokio::test]
async fn a_body_that_panics_counts_as_panicked() {
    let layer = breaker().until(BodyEnd::new());
    let mut response = call(&layer, Response::new(script([Panic]))).await;
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut response))).is_err());
    assert_eq!(layer.handle().state(), CircuitState::Open);
    drop(response);
    assert_eq!(counted(&layer.handle()), (1, 0));
}

#[tokio::test]
async fn a_body_that_is_dropped_after_its_announced_length_ended() {
    let layer = breaker().until(BodyEnd::new());
    let body = || Script { announced: Some(2), ..script([Data("a"), Data("b")]) };
    let mut response = call(&layer, Response::new(body())).await;
    data(&mut response);
    drop(response);
    assert_eq!(counted(&layer.handle()), (0, 0), "half of it");
    let mut response = call(&layer, Response::new(body())).await;
    data(&mut response);
    data(&mut response);
    drop(response);
    assert_eq!(counted(&layer.handle()), (0, 1), "as a server drops it");
    let mut response = call(&layer, grpc(body())).await;
    data(&mut response);
    data(&mut response);
    drop(response);
    assert_eq!(counted(&layer.handle()), (0, 1), "the status of a gRPC call did not come");
    drop(call(&layer, Response::new(Script { announced: Some(0), ..script([]) })).await);
    assert_eq!(counted(&layer.handle()), (0, 2), "nothing was announced");
}

#[tokio::test]
async fn a_failure_in_the_head_counts_with_the_head() {
    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let layer = config.build().unwrap().classify(ByStatus::route()).until(BodyEnd::new());
    let response = call(&layer, with_status(503, script([Data("a")]))).await;
    assert_eq!((layer.handle().state(), layer.handle().stats().failures), (CircuitState::Open, 1));
    drop(response);
    assert_eq!(layer.handle().stats().failures, 1);
}

#[tokio::test]
async fn a_grpc_call_is_judged_by_its_trailers() {
    let layer = breaker().until(BodyEnd::new());
    let handle = layer.handle();
    let end = |body: Script| {
        handle.reset();
        let (layer, before) = (layer.clone(), counted(&handle));
        let handle = handle.clone();
        async move {
            let mut response = call(&layer, grpc(body)).await;
            assert_eq!(counted(&handle), before, "the status is still to come");
            while let Poll::Ready(Some(_)) = poll(&mut response) {}
            let after = counted(&handle);
            (after.0 - before.0, after.1 - before.1)
        }
    };
    let (failure, success) = ((1, 0), (0, 1));
    for (code, expected) in [
        ("0", success),
        ("14", failure),
        ("2", failure),
        ("5", success),
        ("8", success),
        ("no code", failure),
    ] {
        assert_eq!(end(script([Data("a"), grpc_status(code)])).await, expected, "{code}");
    }
    assert_eq!(end(script([Data("a"), Trailers(HeaderMap::new())])).await, failure, "no status");
    assert_eq!(end(script([Data("a")])).await, failure, "no trailers");
    assert_eq!(end(script([Data("a"), Error])).await, failure, "reset");
}

#[tokio::test]
async fn the_codes_in_trailers_can_be_chosen_and_other_trailers_are_ignored() {
    let layer = breaker().until(BodyEnd::new().grpc_failures(|code| code == 8));
    let handle = layer.handle();
    for (response, expected) in [
        (grpc(script([grpc_status("14")])), (0, 1)),
        (Response::new(script([grpc_status("8")])), (0, 2)),
        (grpc(script([grpc_status("8")])), (1, 2)),
    ] {
        let mut response = call(&layer, response).await;
        while let Poll::Ready(Some(_)) = poll(&mut response) {}
        assert_eq!(counted(&handle), expected);
    }
}

/// An open circuit whose open time has passed: the next call is its probe.
async fn half_open(layer: &CircuitBreakerLayer<AnyError>) {
    layer.handle().try_acquire().unwrap().failure();
    tokio::time::advance(Duration::from_secs(30)).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_ends_with_its_body() {
    let layer = breaker();
    let probes = layer.clone().until(BodyEnd::new());
    let handle = layer.handle();
    half_open(&layer).await;
    let mut probe = call(&probes, stream()).await;
    assert_eq!(handle.state(), CircuitState::HalfOpen);
    assert!(handle.try_acquire().is_err(), "the probe is not over");
    data(&mut probe);
    data(&mut probe);
    assert_eq!(handle.state(), CircuitState::HalfOpen);
    assert!(matches!(poll(&mut probe), Poll::Ready(None)));
    assert_eq!(handle.state(), CircuitState::Closed);

    half_open(&layer).await;
    let mut probe = call(&probes, Response::new(script([Error]))).await;
    let _ = poll(&mut probe);
    assert_eq!(handle.state(), CircuitState::Open, "it broke off");

    tokio::time::advance(Duration::from_secs(30)).await;
    drop(call(&probes, stream()).await);
    assert_eq!(handle.state(), CircuitState::HalfOpen, "the place is free for another probe");
    handle.try_acquire().unwrap().success();
    assert_eq!(handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_body_outlives_its_lease_changes_nothing() {
    let layer = breaker();
    let handle = layer.handle();
    half_open(&layer).await;
    let mut slow = call(&layer.clone().until(BodyEnd::new()), stream()).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let second = handle.try_acquire().expect("the place of a probe whose lease has ended");
    while let Poll::Ready(Some(_)) = poll(&mut slow) {}
    assert_eq!(handle.state(), CircuitState::HalfOpen, "the late result of the first");
    second.success();
    assert_eq!(handle.state(), CircuitState::Closed);
}

#[tokio::test]
async fn the_result_of_an_earlier_state_changes_nothing() {
    let layer = breaker().until(BodyEnd::new());
    let handle = layer.handle();
    let mut broken = call(&layer, Response::new(script([Error]))).await;
    handle.force_open();
    let _ = poll(&mut broken);
    assert_eq!(handle.state(), CircuitState::ForcedOpen);

    handle.reset();
    let mut broken = call(&layer, Response::new(script([Error]))).await;
    handle.force_open();
    handle.reset();
    let _ = poll(&mut broken);
    assert_eq!(handle.state(), CircuitState::Closed);

    handle.disable();
    let mut broken = call(&layer, Response::new(script([Error]))).await;
    let failures = handle.stats().failures;
    let _ = poll(&mut broken);
    assert_eq!(handle.stats().failures, failures, "a disabled circuit counts nothing");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_slow_by_the_time_to_its_head() {
    let second = Duration::from_secs(1);
    let config = circuit_breaker::Config::new().slow_calls(second, 1.0).min_calls(1);
    let layer = config.build().unwrap().classify(AnyError);
    let handle = layer.handle();
    let after = |delay: Duration| {
        let service = tower::service_fn(move |_: Request<()>| async move {
            Clock::default().sleep(delay).await;
            Ok::<_, BoxError>(stream())
        });
        let service = layer.clone().until(BodyEnd::new()).layer(HoldBodyLayer.layer(service));
        service.oneshot(Request::default())
    };
    let mut quick = after(second - Duration::from_millis(1)).await.unwrap();
    tokio::time::advance(60 * second).await;
    while let Poll::Ready(Some(_)) = poll(&mut quick) {}
    assert_eq!((handle.stats().window_calls, handle.stats().window_slow), (1, 0));

    let mut slow = after(second).await.unwrap();
    while let Poll::Ready(Some(_)) = poll(&mut slow) {}
    assert_eq!(handle.stats().window_slow, 1);
}

#[tokio::test]
async fn every_form_of_a_breaker_counts_at_the_end() {
    async fn fails<L, S>(layer: &L, state: impl Fn() -> CircuitState)
    where
        L: Layer<HoldBodies<Answers>, Service = S>,
        S: Service<Request<()>, Response = Held, Error = BoxError>,
    {
        let mut response = call(layer, Response::new(script([Error]))).await;
        assert_eq!(state(), CircuitState::Closed);
        let _ = poll(&mut response);
        assert_eq!(state(), CircuitState::Open);
    }

    let layer = breaker().until(BodyEnd::new());
    fails(&layer, || layer.handle().state()).await;
    let layer = breaker().backpressure().until(BodyEnd::new());
    fails(&layer, || layer.handle().state()).await;
    let layer = breaker().until(BodyEnd::new()).leak();
    fails(&layer, || layer.handle().state()).await;

    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let keyed = KeyedCircuitBreakerLayer::new(config, 1, |_: &Request<()>| 7).unwrap();
    let keyed = keyed.until(BodyEnd::new()).classify(AnyError);
    fails(&keyed, || keyed.handle().get(&7).unwrap().state()).await;
}

#[tokio::test]
async fn the_layers_of_a_stack_end_together_and_each_once() {
    let (breaker, bulkhead) = (breaker(), one());
    let (circuit, permits) = (breaker.handle(), bulkhead.handle());
    let route = ServiceBuilder::new()
        .layer(breaker.until(BodyEnd::new()))
        .layer(bulkhead.until(BodyEnd::new()))
        .layer(HoldBodyLayer)
        .service(Answers(Response::new(script([Data("a"), Error]))));
    let mut response = route.oneshot(Request::default()).await.unwrap();
    data(&mut response);
    assert_eq!((permits.stats().active, counted(&circuit)), (1, (0, 0)));
    let _ = poll(&mut response);
    assert_eq!((permits.stats().active, counted(&circuit)), (0, (1, 0)));
}

#[tokio::test]
async fn a_refusal_is_made_with_a_body_that_holds_nothing() {
    let layer = one().http().until(BodyEnd::new());
    let _permit = layer.handle().try_acquire().unwrap();
    let service = layer.layer(HoldBodyLayer.layer(tower::service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(Response::new(http_body_util::Full::<Bytes>::default()))
    })));
    let refused = service.oneshot(Request::default()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.into_body().collect().await.unwrap().to_bytes().starts_with(b"{"));
}
