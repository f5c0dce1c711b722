//! Endpoints that fail are taken out, and taken back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::balance::{Balance, Config, EndpointState, Endpoints, Handle, Outliers};
use buttress::discover::Instance;
use buttress::{Error, Event, Outcome, classify_fn};
use tower::{Service, service_fn};

use super::{Backends, in_turn};
use crate::support::{AppError, Ask, Events, Log, Step, begin, is_pending, ms, now};

fn ejecting() -> Config {
    in_turn().eject(Outliers::new())
}

fn states(handle: &Handle) -> Vec<EndpointState> {
    handle.endpoints().iter().map(|it| it.state).collect()
}

/// Makes `calls` calls, one after another.
fn make<S>(balance: &mut Balance<S>, calls: usize) -> usize
where
    S: Service<Ask, Response = u32, Error = AppError> + Clone,
{
    (0..calls).filter(|_| now(begin(balance, Ask(0))).is_err()).count()
}

#[tokio::test(start_paused = true)]
async fn edge_5_7_of_two_endpoints_one_may_go_and_not_both() {
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(ejecting());
    let handle = balance.handle();
    backends.log("a").always(Step::Fail);
    assert_eq!(make(&mut balance, 20), 5, "the fifth failure in a row takes it out");
    assert_eq!(states(&handle), [EndpointState::Ejected, EndpointState::In]);

    backends.log("b").always(Step::Fail);
    assert_eq!(make(&mut balance, 20), 20);
    assert_eq!(states(&handle), [EndpointState::Ejected, EndpointState::In]);
    let stats = handle.stats();
    assert_eq!((stats.ejections, stats.panicked), (1, 0));
    assert!(stats.spared >= 16, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn edge_5_7_the_only_endpoint_is_never_taken_out() {
    let backends = Backends::new(&["a"]);
    let mut balance = backends.balance(ejecting());
    backends.log("a").always(Step::Fail);
    assert_eq!(make(&mut balance, 100), 100);
    assert_eq!(states(&balance.handle()), [EndpointState::In]);
}

#[tokio::test(start_paused = true)]
async fn edge_5_8_if_all_fail_they_are_used_and_the_balancer_refuses_nothing() {
    let events = Events::default();
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(ejecting().observer(events.clone()));
    let handle = balance.handle();
    backends.each(|log| {
        log.always(Step::Fail);
    });
    assert_eq!(make(&mut balance, 40), 40, "failures of the endpoints themselves");
    assert_eq!(handle.stats().panicked, 0, "one is in");

    // A health check marks the other one.
    assert!(handle.mark_down("b"));
    let begun = Event::PanicChanged { panic: true };
    assert!(events.all().contains(&begun));
    let answers: Vec<_> = (0..10).map(|_| now(begin(&mut balance, Ask(0)))).collect();
    assert!(answers.iter().all(|it| *it == Err(AppError::Broken("scripted failure"))));
    let stats = handle.stats();
    assert_eq!((stats.panicked, stats.refused, stats.endpoints_in), (10, 0, 0));
    assert!(backends.calls().iter().all(|calls| *calls >= 5), "both are used");

    assert!(handle.mark_up("b"));
    assert_eq!(events.all().last(), Some(&Event::PanicChanged { panic: false }));
    make(&mut balance, 10);
    assert_eq!(handle.stats().panicked, 10);
    assert!(!handle.mark_down("c"), "there is no such endpoint");
}

#[tokio::test(start_paused = true)]
async fn edge_5_9_a_refusal_an_aborted_call_and_a_client_error_are_no_failures() {
    let refuses = Arc::new(Mutex::new(None::<Error>));
    let set = Endpoints::new();
    let refusal = buttress::bulkhead::Config::new().max_concurrent(1).build().unwrap().handle();
    let _held = refusal.try_acquire().unwrap();
    *refuses.lock().unwrap() = Some(refusal.try_acquire().unwrap_err());
    set.replace(&[Instance::at("a"), Instance::at("b")], |_| {
        let refuses = refuses.clone();
        service_fn(move |_: Ask| {
            let error = refuses.lock().unwrap().clone().map(AppError::Refused);
            std::future::ready(Err::<u32, _>(error.unwrap_or(AppError::Broken("broken"))))
        })
    });
    let mut balance = Balance::new(set, ejecting()).unwrap();
    make(&mut balance, 100);
    assert_eq!(balance.handle().stats().failures, 0, "our own refusals");
    *refuses.lock().unwrap() = None;
    make(&mut balance, 10);
    assert_eq!(balance.handle().stats().ejections, 1, "and a failure is one");

    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(ejecting());
    backends.each(|log| {
        log.always(Step::Never);
    });
    for _ in 0..100 {
        let mut aborted = begin(&mut balance, Ask(0));
        assert!(is_pending(&mut aborted));
    }
    let stats = balance.handle().stats();
    assert_eq!((stats.failures, stats.ejections, stats.pending), (0, 0, 0), "aborted calls");

    // Statuses: 404 is the client's fault, 503 is the endpoint's.
    for (status, ejections) in [(404_u32, 0), (503, 1)] {
        let set = Endpoints::new();
        set.replace(&[Instance::at("a"), Instance::at("b")], |_| {
            service_fn(move |_: Ask| std::future::ready(Ok::<u32, AppError>(status)))
        });
        let by_status = classify_fn(|result: &Result<u32, AppError>| match result {
            Ok(status) if *status < 500 => Outcome::Success,
            _ => Outcome::Failure,
        });
        let balance = Balance::new(set, ejecting()).unwrap();
        let handle = balance.handle();
        let mut balance = balance.classify(by_status);
        (0..50).for_each(|_| assert_eq!(now(begin(&mut balance, Ask(0))).unwrap(), status));
        assert_eq!(handle.stats().ejections, ejections, "{status}");
    }
}

/// The seconds that the endpoint is out.
fn away(log: &Log, balance: &mut Balance<crate::support::Scripted>, events: &Events) -> Duration {
    log.always(Step::Fail);
    make(balance, 10);
    let away = events.take().iter().find_map(|event| match event {
        Event::EndpointEjected { endpoint, away } if &**endpoint == "a" => Some(*away),
        _ => None,
    });
    away.unwrap()
}

#[tokio::test(start_paused = true)]
async fn edge_5_10_an_ejected_endpoint_returns_at_its_time_and_stays_away_longer_if_it_fails_again()
{
    let events = Events::default();
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(ejecting().observer(events.clone()));
    let handle = balance.handle();
    let log = backends.log("a");
    for times in 1..=2 {
        let away = away(log, &mut balance, &events);
        let tenth = ms(1_000 * times);
        assert!((tenth * 9..=tenth * 11).contains(&away), "{away:?}");
        let calls = log.calls();
        tokio::time::advance(away - Duration::from_nanos(1)).await;
        make(&mut balance, 10);
        assert_eq!((log.calls(), states(&handle)[0]), (calls, EndpointState::Ejected));
        tokio::time::advance(Duration::from_nanos(1)).await;
        log.always(Step::Answer);
        assert_eq!(make(&mut balance, 10), 0);
        assert_eq!((log.calls(), states(&handle)[0]), (calls + 5, EndpointState::In));
        assert_eq!(events.all().last(), Some(&Event::EndpointReturned { endpoint: "a".into() }));
    }
    // Two sweeps and more later, its past is forgiven.
    tokio::time::advance(ms(20_001)).await;
    let away = away(log, &mut balance, &events);
    assert!((ms(9_000)..=ms(11_000)).contains(&away), "{away:?}");
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_call_that_began_before_the_ejection_does_not_count_after_it() {
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(ejecting());
    let log = backends.log("a");
    log.then([Step::FailAfter(12_000); 9]).then([Step::Fail; 5]);
    let mut late: Vec<_> = (0..18).map(|_| begin(&mut balance, Ask(0))).collect();
    late.retain_mut(is_pending);
    assert_eq!(late.len(), 9, "the others answered");
    make(&mut balance, 10);
    assert_eq!(states(&balance.handle())[0], EndpointState::Ejected);
    tokio::time::advance(ms(12_000)).await;
    make(&mut balance, 2);
    assert_eq!(states(&balance.handle())[0], EndpointState::In);
    late.into_iter().for_each(|call| assert!(now(call).is_err()));
    assert_eq!(states(&balance.handle())[0], EndpointState::In, "nine late failures");
}

#[tokio::test(start_paused = true)]
async fn rules_can_change_while_it_runs() {
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(ejecting());
    let handle = balance.handle();
    backends.log("a").always(Step::Fail);
    let strict = handle.config().eject(Outliers::new().consecutive_failures(2)).max_wait(ms(5));
    handle.reconfigure(&strict).unwrap();
    make(&mut balance, 4);
    assert_eq!(states(&handle)[0], EndpointState::Ejected);
    for (config, expected) in [
        (
            Config::new().eject(Outliers::new()),
            "policy: peak-ewma is not the policy of the running balancer, round-robin",
        ),
        (in_turn(), "eject: unset is not set as in the running balancer"),
        (
            in_turn().eject(Outliers::new().window(ms(1))),
            "eject.window: 1ms is not the window of the running balancer, 10s",
        ),
    ] {
        assert_eq!(handle.reconfigure(&config).unwrap_err().to_string(), expected);
    }
}
