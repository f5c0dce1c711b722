//! A request that waited for a further attempt, and finds the circuit in another state than at its
//! admission.

use std::pin::Pin;

use buttress::circuit_breaker;
use buttress::retry::{self, Backoff};
use buttress::sidecar::{Config, SidecarLayer};
use buttress::{CircuitState, ErrorKind, Event, Name, Outcome};
use tower::Layer;

use super::{adds_up, sidecar};
use crate::support::{Ask, Log, Scripted, Step, begin, behind, is_pending, ms, now, panic_of};

fn circuit() -> circuit_breaker::Config {
    circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(100))
}

/// Retries after 200 ms, attempts of 50 ms, and a circuit that one failure opens for 100 ms.
fn parts(attempts: u32, circuit: circuit_breaker::Config) -> Config {
    let retry = retry::Config::new().attempts(attempts).backoff(Backoff::fixed(ms(200)));
    Config::new().retry(retry).time_limit(ms(50)).circuit_breaker(circuit)
}

fn open(layer: &SidecarLayer) -> circuit_breaker::Handle {
    let circuit = layer.handle().circuit_breaker().clone();
    circuit.try_acquire().unwrap().failure();
    assert_eq!(circuit.state(), CircuitState::Open);
    circuit
}

/// Makes requests whose first attempt failed.
fn waiting<S>(service: &mut S, requests: u32) -> Vec<Pin<Box<S::Future>>>
where
    S: tower::Service<Ask, Response = u32, Error = crate::support::AppError>,
{
    let mut waiting: Vec<_> = (0..requests).map(|n| begin(service, Ask(n))).collect();
    assert!(waiting.iter_mut().all(is_pending));
    waiting
}

type Request = Pin<Box<<Service as tower::Service<Ask>>::Future>>;
type Service = <SidecarLayer as Layer<Scripted>>::Service;

/// A request that has waited the 200 ms for its second attempt, and a circuit that opened meanwhile. The calls
/// of the service do `steps`.
async fn late<const N: usize>(
    layer: &SidecarLayer,
    steps: [Step; N],
) -> (Request, circuit_breaker::Handle, Log) {
    let (mut service, log) = behind(layer, steps);
    let request = waiting(&mut service, 1).pop().unwrap();
    let circuit = open(layer);
    tokio::time::advance(ms(200)).await;
    (request, circuit, log)
}

/// Regression: after the open time had passed, all of them passed, and none as a probe.
#[tokio::test(start_paused = true)]
async fn as_many_of_those_that_wait_pass_as_there_are_probes() {
    for probes in [1, 2] {
        let (inner, log) = Scripted::new();
        log.then([Step::Fail; 5]).always(Step::AnswerAfter(10));
        let layer = sidecar(parts(2, circuit().half_open_calls(probes)));
        let mut waiting = waiting(&mut layer.layer(inner), 5);
        let circuit = open(&layer);
        tokio::time::advance(ms(200)).await;
        let mut probing = waiting.split_off(5 - probes as usize);
        assert!(probing.iter_mut().all(is_pending));
        for refused in waiting {
            let error = now(refused).unwrap_err();
            assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
            assert!(!error.refusal().never_reached_service(), "the first attempt did");
        }
        assert_eq!((log.calls(), circuit.state()), (5 + probes as usize, CircuitState::HalfOpen));
        tokio::time::advance(ms(10)).await;
        assert!(now(probing.pop().unwrap()).is_ok());
        assert_eq!(circuit.state(), CircuitState::Closed);
        probing.into_iter().for_each(|probe| assert!(now(probe).is_ok()));
        let stats = layer.handle().stats();
        adds_up(stats);
        assert_eq!((stats.retries, stats.retries_not_made), (probes.into(), 5 - u64::from(probes)));
        let refused = 5 - u64::from(probes);
        assert_eq!(circuit.stats().failures, 1 + refused, "each request is one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_makes_its_other_attempts_as_the_same_probe() {
    for answers in [true, false] {
        let layer = sidecar(parts(3, circuit()));
        let (mut request, circuit, log) = late(&layer, [Step::Fail, Step::FailAfter(10)]).await;
        log.always(if answers { Step::Answer } else { Step::Fail });
        assert!(is_pending(&mut request));
        tokio::time::advance(ms(10)).await;
        assert!(is_pending(&mut request));
        assert_eq!(circuit.state(), CircuitState::HalfOpen, "an attempt failed, not the request");
        assert!(circuit.check().is_err(), "its place is taken");
        tokio::time::advance(ms(200)).await;
        assert_eq!(now(request).is_ok(), answers);
        let end = if answers { CircuitState::Closed } else { CircuitState::Open };
        assert_eq!((circuit.state(), log.calls()), (end, 3));
        assert_eq!(circuit.stats().failures, 1 + u64::from(!answers), "a request is one");
        assert_eq!(layer.handle().stats().retries, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_or_panics_gives_its_place_back() {
    let cases = [(Step::Never, Outcome::Failure), (Step::PanicAtPoll(1), Outcome::Ignored)];
    let cases = [(Step::Never, Outcome::Ignored), (Step::PanicInCall, Outcome::Failure)]
        .into_iter()
        .chain(cases);
    for (step, outcome) in cases {
        let config = circuit().dropped_calls(outcome).panicked_calls(outcome);
        let layer = sidecar(parts(2, config));
        let (mut request, circuit, _) = late(&layer, [Step::Fail, step]).await;
        if step == Step::Never {
            assert!(is_pending(&mut request));
            assert_eq!(circuit.state(), CircuitState::HalfOpen);
        } else {
            panic_of(|| is_pending(&mut request));
        }
        drop(request);
        let end = match outcome {
            Outcome::Failure => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        };
        assert_eq!(circuit.state(), end, "{step:?}");
        assert_eq!(circuit.check().is_err(), outcome == Outcome::Failure, "{step:?}: a free place");
        adds_up(layer.handle().stats());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_takes_too_long_has_failed() {
    let layer = sidecar(parts(2, circuit()));
    let (mut request, circuit, _) = late(&layer, [Step::Fail, Step::Never]).await;
    assert!(is_pending(&mut request));
    tokio::time::advance(ms(50)).await;
    assert_eq!(now(request).unwrap_err().kind(), Some(ErrorKind::TimedOut));
    assert_eq!(circuit.state(), CircuitState::Open);
}

/// A probe by its first admission, whose lease expired while it waited: another request took its
/// place.
#[tokio::test(start_paused = true)]
async fn a_probe_that_lost_its_place_asks_again() {
    for other_ends in [false, true] {
        let (inner, log) = Scripted::new();
        log.then([Step::Fail]);
        let layer = sidecar(parts(2, circuit().probe_lease(ms(150))));
        let circuit = open(&layer);
        tokio::time::advance(ms(100)).await;
        let probe = waiting(&mut layer.layer(inner), 1).pop().unwrap();
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        tokio::time::advance(ms(150)).await;
        let other = circuit.try_acquire().unwrap();
        if other_ends {
            other.settle(Outcome::Ignored, || None);
            tokio::time::advance(ms(50)).await;
            assert_eq!(now(probe), Ok(2));
            assert_eq!(circuit.state(), CircuitState::Closed, "it was the probe again");
        } else {
            tokio::time::advance(ms(50)).await;
            assert_eq!(now(probe).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
            assert_eq!(log.calls(), 1, "one probe, and nothing beside it");
            drop(other);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_the_circuit_closed_again_counts_for_it() {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let layer = sidecar(parts(2, circuit().consecutive_failures(2)));
    let mut requests = waiting(&mut layer.layer(inner), 2);
    let circuit = layer.handle().circuit_breaker().clone();
    circuit.force_open();
    circuit.reset();
    tokio::time::advance(ms(200)).await;
    assert!(now(requests.pop().unwrap()).is_err());
    assert_eq!((circuit.stats().window_failures, circuit.stats().failures), (1, 1));
    circuit.disable();
    assert!(now(requests.pop().unwrap()).is_err(), "it was let through");
    assert_eq!((log.calls(), circuit.stats().window_failures), (4, 1), "and not counted");
}

/// An observer that panics when the circuit becomes half-open, for a request that has waited.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_keeps_no_place() {
    let observer = |_: Name, event: &Event| {
        if let Event::CircuitChanged { to: CircuitState::HalfOpen, .. } = event {
            panic!("the observer's own");
        }
    };
    let (inner, log) = Scripted::new();
    log.then([Step::Fail]);
    let layer = sidecar(parts(2, circuit()).observer(observer));
    let mut request = waiting(&mut layer.layer(inner), 1).pop().unwrap();
    let circuit = open(&layer);
    tokio::time::advance(ms(200)).await;
    assert_eq!(panic_of(|| is_pending(&mut request)), "the observer's own");
    assert_eq!((circuit.state(), log.calls()), (CircuitState::HalfOpen, 1));
    assert!(circuit.check().is_ok(), "its place is free");
}
