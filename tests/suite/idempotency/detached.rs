//! Handlers on separate tasks.

use buttress::idempotency::{IdempotencyLayer, StoreFailure};
use buttress::{ErrorKind, StoreErrorKind};
use tower::{Layer as _, service_fn};

use super::faulty::{Faulty, Plan};
use super::{Ask, Step, begin, by_ask, call, config, layer};
use crate::support::bombs::armed;
use crate::support::{AppError, Watch, behind, is_pending, ms, now, panic_of, soon};

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_does_not_stop_its_handler_and_its_retry_finds_the_answer() {
    let layer = layer(config().max_detached(4).lease(ms(300))).detached();
    let (mut service, log) = behind(&layer, [Step::AnswerAfter(500)]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    tokio::task::yield_now().await;
    drop(first);
    assert_eq!(layer.handle().stats().detached, 1);
    let watch = Watch::start();
    // The retry waits for the same handler, whose claim is renewed meanwhile.
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 1);
    assert_eq!((watch.ms(), log.calls()), (500, 1));
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.detached, stats.in_flight, stats.failed), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_stays_gets_the_answer_the_error_or_the_panic() {
    let layer = layer(config().max_detached(1)).detached();
    let (mut service, _) =
        behind(&layer, [Step::AnswerAfter(10), Step::FailAfter(10), Step::PanicAtPoll(1)]);
    assert_eq!(soon(begin(&mut service, Ask(1))).await.unwrap(), 1);
    let error = soon(begin(&mut service, Ask(2))).await.unwrap_err();
    assert_eq!(error, AppError::Broken("scripted failure"));
    let panicking = tokio::spawn(begin(&mut service, Ask(3))).await.unwrap_err().into_panic();
    assert_eq!(panic_of(|| std::panic::resume_unwind(panicking)), "scripted panic in poll");
    assert_eq!(layer.handle().stats().store.unwrap().in_flight, 0, "every key is free again");
    assert_eq!(layer.handle().stats().detached, 0);
    assert_eq!(soon(begin(&mut service, Ask(3))).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn handlers_beyond_the_cap_are_refused_and_leave_their_keys_free() {
    let layer = layer(config().name("pay").max_detached(2)).detached();
    let (mut service, log) = behind(&layer, [Step::Held, Step::Held]);
    let mut running = [begin(&mut service, Ask(1)), begin(&mut service, Ask(2))];
    assert!(running.iter_mut().all(is_pending));
    let error = now(begin(&mut service, Ask(3))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::DetachedFull));
    assert_eq!(error.to_string(), "idempotency \"pay\" at capacity (2 detached handlers)");
    assert!(error.refusal().never_reached_service());
    // A call that waits for a running handler needs no place.
    let mut waits = begin(&mut service, Ask(1));
    assert!(is_pending(&mut waits));
    tokio::task::yield_now().await;
    log.open();
    assert_eq!(soon(waits).await.unwrap(), 1);
    for call in running {
        soon(call).await.unwrap();
    }
    assert_eq!(soon(begin(&mut service, Ask(3))).await.unwrap(), 3, "the key was free");
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_all_that_run_and_lets_none_begin() {
    let layer = layer(config().max_detached(4)).detached();
    let (mut service, _) =
        behind(&layer, [Step::Answer, Step::AnswerAfter(100), Step::AnswerAfter(300)]);
    assert_eq!(soon(begin(&mut service, Ask(1))).await.unwrap(), 1);
    let mut clients = [begin(&mut service, Ask(2)), begin(&mut service, Ask(3))];
    assert!(clients.iter_mut().all(is_pending));
    tokio::task::yield_now().await;
    drop(clients);
    let watch = Watch::start();
    let handle = layer.handle();
    let mut drained = Box::pin(handle.drain());
    assert!(is_pending(&mut drained));
    let error = soon(begin(&mut service, Ask(4))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ShuttingDown));
    assert_eq!(
        soon(begin(&mut service, Ask(1))).await.unwrap(),
        1,
        "a stored answer is still replayed"
    );
    soon(drained).await;
    assert_eq!(watch.ms(), 300);
    assert_eq!(layer.handle().stats().detached, 0);
    // Both answers are available.
    assert_eq!(soon(begin(&mut service, Ask(3))).await.unwrap(), 3);
    soon(handle.drain()).await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_runs_nothing_is_drained_at_once() {
    now(layer(config().max_detached(1)).detached().handle().drain());
    now(layer(config()).handle().drain());
}

/// A task that its runtime or its spawner dropped leaves nothing behind.
#[tokio::test(start_paused = true)]
async fn a_handler_whose_task_is_dropped_frees_its_key_and_tells_its_caller() {
    let spawner = buttress::Spawner::new(|task: buttress::Task| drop(task));
    let layer = layer(config().max_detached(1).spawner(spawner)).detached();
    let (mut service, log) = behind(&layer, []);
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ShuttingDown));
    let stats = layer.handle().stats();
    assert_eq!((stats.detached, stats.in_flight, log.calls()), (0, 0, 0));
    assert_eq!(stats.store.unwrap().in_flight, 0);
}

/// Regression: a call that ran unprotected because the store was unavailable ran on the task of its
/// caller, and began after the drain.
#[tokio::test(start_paused = true)]
async fn a_handler_without_its_store_is_detached_as_any_other() {
    let store = Faulty::default();
    for _ in 0..3 {
        store.then("claim", Plan::Fails(StoreErrorKind::Transient));
    }
    let config = config().max_detached(1).store_failure(StoreFailure::Open).store_attempts(1);
    let layer = IdempotencyLayer::new(config, store, by_ask).unwrap().detached();
    let (mut service, log) = behind(&layer, [Step::AnswerAfter(500)]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    tokio::task::yield_now().await;
    drop(first);
    assert_eq!((layer.handle().stats().detached, log.live()), (1, 1));
    let error = soon(begin(&mut service, Ask(8))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::DetachedFull));
    let watch = Watch::start();
    soon(layer.handle().drain()).await;
    assert_eq!((watch.ms(), log.live()), (500, 0));
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ShuttingDown));
    assert_eq!(log.calls(), 1);
}

/// The panic once took the place of the answer, and the caller got the error that the layer shuts
/// down.
#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_when_it_is_dropped_has_its_answer() {
    let layer = layer(config().max_detached(1)).detached();
    let handler = service_fn(|ask: Ask| armed(async move { Ok::<u32, AppError>(ask.0) }));
    for _ in 0..2 {
        let mut service = layer.layer(handler);
        assert_eq!(soon(begin(&mut service, Ask(7))).await, Ok(7));
    }
    let stats = layer.handle().stats();
    let store = stats.store.unwrap();
    assert_eq!((stats.detached, store.in_flight, store.stored), (0, 0, 1));
}
