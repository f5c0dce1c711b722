//! Waiting slots of a key that are late, lost, or of an earlier queue.

use buttress::idempotency::{IdempotencyLayer, MemoryStore};
use buttress::{Clock, ErrorKind};
use tower::Layer;

use super::faulty::{Faulty, Plan};
use super::{Ask, Scripted, Step, begin, begin_many, call, config, digest, layer, over, tens};
use crate::support::{Watch, behind, is_pending, ms, soon};

/// Regression: slots were numbered per queue. A slot that had been served and was dropped unpolled
/// removed the slot of the same number from a later queue.
#[tokio::test(start_paused = true)]
async fn a_place_in_a_line_that_is_gone_disturbs_no_other() {
    let layer = over(config(), MemoryStore::with_capacity(Clock::default(), 1).unwrap());
    let (mut service, log) =
        behind(&layer, [Step::AnswerAfter(1000), Step::Answer, Step::AnswerAfter(1000)]);
    let mut calls = begin_many(&mut service, Ask(7), 2);
    assert!(calls.iter_mut().all(is_pending));
    let (served, first) = (calls.pop().unwrap(), calls.pop().unwrap());
    assert_eq!(soon(first).await.unwrap(), 1);
    // Another result evicts the first, whose key starts again.
    assert_eq!(call(&mut service, Ask(8)).await.unwrap(), 2);
    let mut calls = begin_many(&mut service, Ask(7), 2);
    assert!(calls.iter_mut().all(is_pending));
    drop(served);
    assert_eq!(layer.handle().stats().waiting, 1);
    let watch = Watch::start();
    for call in calls {
        assert_eq!(soon(call).await.unwrap(), 3);
    }
    assert_eq!((watch.ms(), log.calls()), (1000, 3));
    assert_eq!(layer.handle().stats().waiting, 0);
}

/// Regression: a slot that is served while its call queries the store was removed from its queue
/// twice.
#[tokio::test(start_paused = true)]
async fn whoever_is_served_while_it_asks_the_store_leaves_the_line_once() {
    let store = Faulty::default();
    let some = |ask: &Ask| (ask.0 % 10 != 0).then(|| digest(ask));
    let layer = IdempotencyLayer::new(config(), store.clone(), tens).unwrap().fingerprint(some);
    let (mut service, _) = behind(&layer, [Step::FailAfter(10)]);
    let first = tokio::spawn(begin(&mut service, Ask(71)));
    tokio::task::yield_now().await;
    let asks = tokio::spawn(begin(&mut service, Ask(71)));
    tokio::task::yield_now().await;
    // Its request may differ, so it stays in the queue.
    let mut stays = begin(&mut service, Ask(70));
    assert!(is_pending(&mut stays));
    store.then("claim", Plan::Slow(100));
    first.await.unwrap().unwrap_err();
    tokio::task::yield_now().await;
    assert_eq!(call(&mut service, Ask(71)).await.unwrap(), 2, "while the second asks");
    assert_eq!(soon(asks).await.unwrap().unwrap(), 2);
    assert_eq!(layer.handle().stats().waiting, 1);
    drop(stays);
    assert_eq!(layer.handle().stats().waiting, 0);
}

/// A mistake, but no deadlock, as the guide says.
#[tokio::test(start_paused = true)]
async fn a_layer_inside_of_itself_waits_for_itself_as_long_as_any_call() {
    let (inner, log) = Scripted::new();
    let layer = layer(config().longest_wait(ms(5000)));
    let mut service = layer.layer(layer.layer(inner));
    let watch = Watch::start();
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyInFlight));
    assert_eq!((watch.ms(), log.calls()), (5000, 0));
    let stats = layer.handle().stats();
    assert_eq!((stats.in_flight, stats.waiting), (0, 0));
}
