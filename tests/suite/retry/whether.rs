//! Whether there is another attempt: budget, request and result decide.

use std::sync::{Arc, Mutex};

use buttress::retry::{Backoff, Budget, Config, RetryLayer};
use buttress::{Event, GaveUp, Outcome, classify_fn};
use tower::Layer;

use super::{doubling, retry};
use crate::support::{AppError, Ask, Events, Once, Scripted, Step, behind, call, ms};

#[tokio::test(start_paused = true)]
async fn two_services_share_a_budget() {
    // Ten retries in ten seconds, over all callers.
    let budget = Budget::new(0.0, 1).unwrap();
    let mut retries = 0;
    for _ in 0..2 {
        let config = Config::new().attempts(8).backoff(Backoff::none()).budget(budget.clone());
        let layer = retry(config);
        let (mut service, log) = behind(&layer, []);
        log.always(Step::Fail);
        assert!(call(&mut service, Ask(0)).await.is_err());
        retries += layer.handle().stats().retries;
        assert_eq!(log.calls() as u64, 1 + layer.handle().stats().retries);
    }
    assert_eq!(retries, 10, "7 by the first, 3 by the second");
    tokio::time::advance(ms(10_000)).await;
    assert!(budget.try_withdraw(buttress::Clock::default().now()), "the window has passed");
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_a_share_of_the_calls_of_every_layer_it_is_given_to() {
    let budget = Budget::new(0.2, 0).unwrap();
    let config = || Config::new().backoff(Backoff::none()).budget(budget.clone());
    let (well, _) = Scripted::new();
    let mut well = retry(config()).layer(well);
    for n in 0..19 {
        assert!(call(&mut well, Ask(n)).await.is_ok());
    }
    let (ill, log) = Scripted::new();
    log.always(Step::Fail);
    let mut ill = retry(config().attempts(50)).layer(ill);
    assert!(call(&mut ill, Ask(0)).await.is_err());
    assert_eq!(log.calls(), 1 + 4, "a fifth of twenty calls");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_cloned_gets_one_attempt() {
    let events = Events::default();
    let (inner, log) = Scripted::<AppError, Once>::of();
    log.always(Step::Fail);
    let layer = retry(Config::new().observer(events.clone())).clone_request(|_: &Once| None);
    let result = call(&mut layer.layer(inner), Once).await;
    assert_eq!(result, Err(AppError::Broken("scripted failure")), "its own error, no other");
    assert_eq!((log.calls(), log.clones()), (1, 0));
    let gave_up = Event::RetriesExhausted { attempts: 1, reason: GaveUp::Request };
    assert_eq!(events.all(), [gave_up]);
}

#[tokio::test(start_paused = true)]
async fn the_service_sees_the_number_of_the_attempt() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let inner = tower::service_fn(move |Ask(n)| {
        sees.lock().unwrap().push(n);
        async { Err::<u32, _>(AppError::Broken("no")) }
    });
    let layer = retry(Config::new().backoff(Backoff::none()).attempts(4))
        .on_attempt(|request: &mut Ask, n| request.0 = n);
    assert!(call(&mut layer.layer(inner), Ask(99)).await.is_err());
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_success_and_an_ignored_failure_end_it() {
    let ignore = classify_fn(|result: &Result<u32, AppError>| match result {
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Ignored,
    });
    let layer = RetryLayer::default().classify(ignore);
    let (mut service, log) = behind(&layer, [Step::Answer, Step::Fail]);
    assert_eq!(call(&mut service, Ask(0)).await, Ok(1));
    assert!(call(&mut service, Ask(0)).await.is_err());
    assert_eq!(log.calls(), 2);
    assert_eq!(layer.handle().stats().exhausted, 0, "nothing was worth another attempt");
}

#[tokio::test(start_paused = true)]
async fn a_response_can_be_worth_another_attempt() {
    let (inner, log) = Scripted::new();
    let only_the_second = classify_fn(|result: &Result<u32, AppError>| match result {
        Ok(2) => Outcome::Success,
        _ => Outcome::Failure,
    });
    let layer = retry(Config::new().backoff(doubling())).classify(only_the_second);
    assert_eq!(call(&mut layer.layer(inner), Ask(0)).await, Ok(2));
    assert_eq!(log.at(), [0, 100]);
}
