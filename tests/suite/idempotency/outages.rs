//! A store that is unavailable for a long time, or that needs a manual repair.

use std::time::Duration;

use buttress::idempotency::{Config, IdempotencyLayer, StoreFailure};
use buttress::{Clock, ErrorKind, StoreErrorKind};
use tower::Layer;

use super::faulty::{Faulty, Plan};
use super::{Ask, ByAsk, Layered, Scripted, Step, begin, by_ask, call, config};
use crate::support::lines::Lines;
use crate::support::{ms, soon};

const MINUTE: Duration = Duration::from_secs(60);
const AWAY: Plan = Plan::Fails(StoreErrorKind::Transient);
const BROKEN: Plan = Plan::Fails(StoreErrorKind::Misconfigured);

fn over(config: Config, store: &Faulty) -> Layered {
    IdempotencyLayer::new(config, store.clone(), by_ask as ByAsk).unwrap()
}

async fn pass(time: Duration) {
    Clock::default().sleep(time).await;
}

/// Regression: each running handler made ten renewals and ten warnings per second.
#[tokio::test(start_paused = true)]
async fn renewals_wait_ever_longer_and_two_lines_are_logged() {
    let lines = Lines::capture();
    let store = Faulty::default();
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(12 * 60 * 1000)]);
    // The handler continues without protection.
    let config = config().lease(Duration::from_secs(30)).store_failure(StoreFailure::Open);
    let layer = over(config, &store);
    let mut service = layer.layer(inner);
    let running = tokio::spawn(begin(&mut service, Ask(7)));
    pass(ms(1)).await;
    store.always("renew", AWAY);
    pass(10 * MINUTE).await;
    let renewals = store.count("renew");
    assert!((30..=90).contains(&renewals), "{renewals} in ten minutes");
    assert_eq!(lines.levels(), (0, 1, 0));
    store.always("renew", Plan::Slow(0));
    pass(2 * MINUTE).await;
    assert_eq!(soon(running).await.unwrap().unwrap(), 1);
    assert_eq!(lines.levels(), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_a_person_must_make_possible_is_tried_once_a_minute() {
    let lines = Lines::capture();
    let store = Faulty::default();
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(12 * 60 * 1000)]);
    // The handler continues without protection.
    let config = config().lease(Duration::from_secs(30)).store_failure(StoreFailure::Open);
    let layer = over(config, &store);
    let mut service = layer.layer(inner);
    let running = tokio::spawn(begin(&mut service, Ask(7)));
    pass(ms(1)).await;
    store.always("renew", BROKEN);
    pass(10 * MINUTE).await;
    assert!((9..=11).contains(&store.count("renew")), "{}", store.count("renew"));
    assert_eq!(lines.levels(), (1, 0, 0));
    store.always("renew", Plan::Slow(0));
    pass(2 * MINUTE).await;
    assert_eq!(soon(running).await.unwrap().unwrap(), 1);
    assert_eq!(lines.levels(), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_a_person_must_make_possible_is_tried_once_a_minute() {
    let lines = Lines::capture();
    let store = Faulty::default();
    store.always("sweep", BROKEN);
    let (inner, _log) = Scripted::new();
    let layer = over(config().sweep(ms(1000), 100), &store);
    let mut service = layer.layer(inner);
    for number in 0..600 {
        assert!(call(&mut service, Ask(number)).await.is_ok());
        pass(ms(1000)).await;
    }
    assert!((9..=12).contains(&store.count("sweep")), "{}", store.count("sweep"));
    assert_eq!(lines.levels(), (1, 0, 0));
}

/// The callers get every failure; the log gets the first.
#[tokio::test(start_paused = true)]
async fn an_outage_is_two_lines_however_many_calls_it_refuses() {
    for (plan, said) in [(AWAY, (0, 1, 0)), (BROKEN, (1, 0, 0))] {
        let lines = Lines::capture();
        let store = Faulty::default();
        store.always("claim", plan).always("release", plan);
        let (inner, _log) = Scripted::new();
        let layer = over(config(), &store);
        let mut service = layer.layer(inner);
        for number in 0..100 {
            let error = call(&mut service, Ask(number)).await.unwrap_err();
            assert_eq!(error.kind(), Some(ErrorKind::StoreUnavailable));
        }
        assert_eq!(lines.levels(), said);
        store.always("claim", Plan::Slow(0));
        assert!(call(&mut service, Ask(7)).await.is_ok());
        assert_eq!(lines.levels(), (0, 0, 1));
    }
}
