//! A store that is unavailable for a long time, or that needs a manual repair.

use std::time::Duration;

use buttress::idempotency::{Config, IdempotencyLayer, StoreFailure};
use buttress::{Clock, ErrorKind, StoreErrorKind};
use tokio::task::JoinHandle;

use super::faulty::{Faulty, Plan};
use super::{Ask, ByAsk, Layered, Step, begin, by_ask, call, config};
use crate::support::lines::Lines;
use crate::support::{AppError, behind, ms, soon};

const MINUTE: Duration = Duration::from_secs(60);
const AWAY: Plan = Plan::Fails(StoreErrorKind::Transient);
const BROKEN: Plan = Plan::Fails(StoreErrorKind::Misconfigured);

fn over(config: Config, store: &Faulty) -> Layered {
    IdempotencyLayer::new(config, store.clone(), by_ask as ByAsk).unwrap()
}

async fn pass(time: Duration) {
    Clock::default().sleep(time).await;
}

type Running = JoinHandle<Result<u32, AppError>>;

/// Returns a store whose renewals did `plan` for ten minutes. The handler continues without protection meanwhile.
async fn ten_minutes_without_renewal(plan: Plan) -> (Faulty, Running) {
    let store = Faulty::default();
    let config = config().lease(Duration::from_secs(30)).store_failure(StoreFailure::Open);
    let (mut service, _) = behind(&over(config, &store), [Step::AnswerAfter(12 * 60 * 1000)]);
    let running = tokio::spawn(begin(&mut service, Ask(7)));
    pass(ms(1)).await;
    store.always("renew", plan);
    pass(10 * MINUTE).await;
    (store, running)
}

/// Lets the store work again, and waits for the answer of the handler. One line says that the store
/// works.
async fn assert_mended(store: &Faulty, running: Running, lines: &Lines) {
    store.always("renew", Plan::Slow(0));
    pass(2 * MINUTE).await;
    assert_eq!(soon(running).await.unwrap().unwrap(), 1);
    assert_eq!(lines.levels(), (0, 0, 1));
}

/// Regression: each running handler made ten renewals and ten warnings per second.
#[tokio::test(start_paused = true)]
async fn renewals_wait_ever_longer_and_two_lines_are_logged() {
    let lines = Lines::capture();
    let (store, running) = ten_minutes_without_renewal(AWAY).await;
    let renewals = store.count("renew");
    assert!((30..=90).contains(&renewals), "{renewals} in ten minutes");
    assert_eq!(lines.levels(), (0, 1, 0));
    assert_mended(&store, running, &lines).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_a_person_must_make_possible_is_tried_once_a_minute() {
    let lines = Lines::capture();
    let (store, running) = ten_minutes_without_renewal(BROKEN).await;
    assert!((9..=11).contains(&store.count("renew")), "{}", store.count("renew"));
    assert_eq!(lines.levels(), (1, 0, 0));
    assert_mended(&store, running, &lines).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_a_person_must_make_possible_is_tried_once_a_minute() {
    let lines = Lines::capture();
    let store = Faulty::default();
    store.always("sweep", BROKEN);
    let layer = over(config().sweep(ms(1000), 100), &store);
    let (mut service, _log) = behind(&layer, []);
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
        let layer = over(config(), &store);
        let (mut service, _log) = behind(&layer, []);
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
