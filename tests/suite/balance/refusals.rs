//! An endpoint that refuses calls draws few of them, although it answers faster than the others.

use std::time::Duration;

use buttress::balance::{
    Balance, Config, EndpointState, EndpointStats, Endpoints, Outliers, Policy,
};
use buttress::discover::Instance;
use buttress::{Classify, Clock, Outcome, Rng, bulkhead, classify_fn};
use buttress_http::grpc::GrpcLayerExt;
use buttress_http::{ByStatus, HttpLayerExt};
use http::{Request, Response};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, ServiceExt, service_fn};

type Web = BoxCloneSyncService<Request<()>, Response<String>, BoxError>;

fn serve(
    millis: u64,
    answer: impl Fn() -> Response<String> + Clone + Send + Sync + 'static,
) -> Web {
    Web::new(service_fn(move |_| {
        let answer = answer();
        async move {
            Clock::default().sleep(Duration::from_millis(millis)).await;
            Ok(answer)
        }
    }))
}

fn status(code: u16, fields: &'static [(&'static str, &'static str)]) -> Web {
    serve(0, move || {
        let mut response = Response::builder().status(code);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(String::new()).unwrap()
    })
}

/// The policies that read a load, and the calls that begin together. The penalty of `LeastPending` ends at 20 calls.
const BURSTS: [(Policy, usize); 2] = [(Policy::PeakEwma, 50), (Policy::LeastPending, 15)];

fn config(policy: Policy) -> Config {
    let eject = Outliers::new().consecutive_failures(1);
    Config::new().policy(policy).rng(Rng::seeded(1)).count_calls(true).eject(eject)
}

/// Sends 500 calls in bursts of `burst` to an endpoint that answers after 20 ms, and to `refuses`. Returns the numbers
/// of the latter.
async fn balanced<C>(refuses: Web, classify: C, config: Config, burst: usize) -> EndpointStats
where
    C: Classify<Response<String>, BoxError> + Clone + Send + Sync + 'static,
{
    let endpoints = Endpoints::new();
    endpoints.replace(&[Instance::at("works"), Instance::at("refuses")], |it| match it.id() {
        "works" => serve(20, || Response::new("done".to_owned())),
        _ => refuses.clone(),
    });
    let balance = Balance::new(endpoints, config).unwrap().classify(classify);
    for _ in 0..500 / burst {
        let begin = |_| tokio::spawn(balance.clone().oneshot(Request::default()));
        let calls: Vec<_> = (0..burst).map(begin).collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let stats = balance.handle().endpoints().remove(1);
    assert_eq!((stats.failures, stats.state), (0, EndpointState::In), "no failure");
    stats
}

#[tokio::test(start_paused = true)]
async fn edge_5_9_a_refusal_of_the_remote_or_of_the_stack_draws_no_calls() {
    let full = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let _taken = full.handle().try_acquire().unwrap();
    let done = || serve(20, || Response::new("done".to_owned()));
    let exhausted = &[("content-type", "application/grpc"), ("grpc-status", "8")];
    for (what, refuses) in [
        ("429", status(429, &[])),
        ("RESOURCE_EXHAUSTED", status(200, exhausted)),
        ("bulkhead as 503", Web::new(full.clone().http().layer(done()))),
        ("bulkhead as RESOURCE_EXHAUSTED", Web::new(full.clone().grpc().layer(done()))),
    ] {
        for (policy, burst) in BURSTS {
            let stats = balanced(refuses.clone(), ByStatus::client(), config(policy), burst).await;
            assert!(stats.calls < Some(60), "{what}, {policy}: {stats:?}");
        }
        let stats = balanced(refuses, ByStatus::client(), config(Policy::PeakEwma), 1).await;
        assert!(stats.calls < Some(25), "{what}, one call at a time: {stats:?}");
    }
}

/// A classifier of a service without HTTP, whose answers can be refusals.
#[derive(Clone)]
struct ByText;

impl Classify<Response<String>, BoxError> for ByText {
    fn classify(&self, result: &Result<Response<String>, BoxError>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn retry_after(&self, result: &Result<Response<String>, BoxError>) -> Option<Duration> {
        let answer = result.as_ref().ok()?;
        answer.body().strip_prefix("again in ")?.parse().ok().map(Duration::from_secs)
    }
}

#[tokio::test(start_paused = true)]
async fn edge_5_9_an_answer_with_a_hint_draws_no_calls_whatever_the_service_is() {
    let again = serve(0, || Response::new("again in 3".to_owned()));
    for (policy, burst) in BURSTS {
        let stats = balanced(again.clone(), ByText, config(policy), burst).await;
        assert!(stats.calls < Some(60), "{policy}: {stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_5_9_an_ignored_answer_makes_an_endpoint_look_like_the_others() {
    let ignored = classify_fn(|result: &Result<Response<String>, BoxError>| match result {
        Ok(answer) if answer.status() == 418 => Outcome::Ignored,
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    });
    let stats = balanced(status(418, &[]), ignored, config(Policy::PeakEwma), 1).await;
    // The measure of the other is 20 ms, and so is this one. Between two answers of the other it is a little less.
    assert!(stats.latency <= Duration::from_millis(20), "{stats:?}");
    assert!((200..=350).contains(&stats.calls.unwrap()), "{stats:?}");
}
