//! Calls whose key is in flight: they wait for the one answer, or are refused, and one takes over.

use std::time::Duration;

use buttress::ErrorKind;
use buttress::idempotency::{IdempotencyLayer, MemoryStore};
use tower::{Layer, ServiceExt};

use super::{
    Ask, Scripted, Step, begin, begin_many, by_ask, call, config, digest, layer, over, tens,
};
use crate::support::{Waiter, Watch, behind, is_pending, ms, now, soon};

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_the_one_answer_at_once() {
    let layer = layer(config());
    let (mut service, log) = behind(&layer, [Step::AnswerAfter(250)]);
    let watch = Watch::start();
    let calls = begin_many(&mut service, Ask(7), 10);
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        assert_eq!(soon(task).await.unwrap().unwrap(), 1);
        assert_eq!(watch.ms(), 250, "not at the next look");
    }
    assert_eq!(log.calls(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.waited, stats.replayed), (1, 9, 9));
    assert_eq!((stats.waiting, stats.in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_call_of_the_same_layer_is_woken_once_and_never_polls() {
    let (mut service, log) = behind(&layer(config()), [Step::Held]);
    let mut owner = begin(&mut service, Ask(7));
    assert!(is_pending(&mut owner));
    let mut waiting = begin(&mut service, Ask(7));
    let waiter = Waiter::new();
    assert!(waiter.poll(&mut waiting).is_pending());
    tokio::time::advance(ms(9_000)).await;
    assert_eq!(waiter.wakes(), 0, "nine seconds of intervals passed");
    log.open();
    assert_eq!(now(owner).unwrap(), 1);
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(waiting).unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_flight_is_refused_at_once_where_nobody_waits() {
    let config = config().refuse_in_flight(true).lease(ms(9000));
    let layer = layer(config);
    let (mut service, _) = behind(&layer, [Step::AnswerAfter(4000)]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    tokio::time::advance(ms(1000)).await;
    let error = now(begin(&mut service, Ask(7))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyInFlight));
    assert_eq!(error.refusal().retry_after(), Some(ms(8000)), "the rest of the lease");
    assert!(error.refusal().never_reached_service());
    assert_eq!(first.await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(layer.handle().stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_longest_wait() {
    for (answer_after, expected) in [(499, None), (501, Some(ErrorKind::KeyInFlight))] {
        let (mut service, _) =
            behind(&layer(config().longest_wait(ms(500))), [Step::AnswerAfter(answer_after)]);
        let watch = Watch::start();
        let first = tokio::spawn(begin(&mut service, Ask(7)));
        tokio::task::yield_now().await;
        let waited = soon(begin(&mut service, Ask(7))).await;
        assert_eq!(watch.ms(), answer_after.min(500));
        assert_eq!(waited.as_ref().err().and_then(|error| error.kind()), expected);
        if let Err(error) = waited {
            // No renewal yet: the lease of 30 s began with the call.
            assert_eq!(error.refusal().retry_after(), Some(ms(29_500)));
        }
        assert_eq!(soon(first).await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_when_the_longest_wait_ends_wins() {
    let (mut service, log) = behind(&layer(config().longest_wait(ms(500))), [Step::Held]);
    let mut calls = begin_many(&mut service, Ask(7), 2);
    assert!(calls.iter_mut().all(is_pending));
    tokio::time::advance(ms(500)).await;
    log.open();
    for call in calls {
        assert_eq!(now(call).unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_at_all_is_a_refusal() {
    let (mut service, _) = behind(&layer(config().longest_wait(Duration::ZERO)), [Step::Held]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyInFlight));
}

#[tokio::test(start_paused = true)]
async fn when_an_owner_fails_exactly_one_of_those_who_wait_takes_over() {
    let layer = layer(config());
    let (mut service, log) =
        behind(&layer, [Step::FailAfter(100), Step::FailAfter(100), Step::AnswerAfter(100)]);
    let watch = Watch::start();
    let calls = begin_many(&mut service, Ask(7), 6);
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(soon(task).await.unwrap().ok());
    }
    // In the order of arrival: the second call takes over from the first, the third from the
    // second.
    assert_eq!(answers, [None, None, Some(3), Some(3), Some(3), Some(3)]);
    assert_eq!((watch.ms(), log.at()), (300, vec![0, 100, 200]));
    assert_eq!(log.peak(), 1, "never two concurrently");
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.taken_over, stats.failed, stats.replayed), (3, 2, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_dropped_while_it_waits_disturbs_nobody() {
    for gone in 1..4 {
        let layer = layer(config());
        let (mut service, _) = behind(&layer, [Step::FailAfter(100), Step::AnswerAfter(100)]);
        let mut calls = begin_many(&mut service, Ask(7), 4);
        assert!(calls.iter_mut().all(is_pending));
        drop(calls.remove(gone));
        assert_eq!(layer.handle().stats().waiting, 2);
        let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(soon(task).await.unwrap().ok());
        }
        assert_eq!(answers, [None, Some(2), Some(2)], "without {gone}");
        assert_eq!(layer.handle().stats().waiting, 0);
    }
}

/// It has been woken to check the key, and is dropped before its poll.
#[tokio::test(start_paused = true)]
async fn the_next_takes_over_when_the_first_is_dropped_with_its_turn() {
    let layer = layer(config());
    let (mut service, log) = behind(&layer, [Step::Held, Step::Answer]);
    let mut calls = begin_many(&mut service, Ask(7), 3);
    assert!(calls.iter_mut().all(is_pending));
    let (last, second) = (calls.pop().unwrap(), calls.pop().unwrap());
    drop(calls); // The owner: the second is woken.
    drop(second);
    assert_eq!(now(last).unwrap(), 2);
    assert_eq!(log.calls(), 2);
}

/// The next waiter takes over when the call that took over is dropped too.
#[tokio::test(start_paused = true)]
async fn a_call_that_took_over_and_is_dropped_is_taken_over_in_turn() {
    let layer = layer(config());
    let (mut service, log) = behind(&layer, [Step::Held, Step::Held, Step::Answer]);
    let mut calls = begin_many(&mut service, Ask(7), 3);
    assert!(calls.iter_mut().all(is_pending));
    drop(calls.remove(0));
    assert!(is_pending(&mut calls[0]), "it runs");
    assert_eq!(log.calls(), 2);
    drop(calls.remove(0));
    assert_eq!(now(calls.remove(0)).unwrap(), 3);
    assert_eq!(layer.handle().stats().taken_over, 2);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_gets_a_freed_key_first_is_waited_for() {
    let (mut service, log) = behind(&layer(config()), [Step::Held, Step::AnswerAfter(50)]);
    let mut calls = begin_many(&mut service, Ask(7), 2);
    assert!(calls.iter_mut().all(is_pending));
    let waiting = calls.pop().unwrap();
    drop(calls);
    let newcomer = begin(&mut service, Ask(7));
    let (newcomer, waiting) = tokio::join!(newcomer, waiting);
    assert_eq!((newcomer.unwrap(), waiting.unwrap(), log.calls()), (2, 2, 2));
}

/// Two layers over one store are two processes: they do not notify each other.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_another_process_polls_at_the_interval() {
    let store = MemoryStore::default();
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(250)]);
    let elsewhere = over(config(), store.clone());
    let here = over(config().poll_interval(ms(100)), store);
    let watch = Watch::start();
    let first = begin(&mut elsewhere.layer(inner.clone()), Ask(7));
    let mut service = here.layer(inner);
    let waiting = begin_many(&mut service, Ask(7), 5);
    let first = tokio::spawn(first);
    let tasks: Vec<_> = waiting.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        assert_eq!(soon(task).await.unwrap().unwrap(), 1);
        assert_eq!(watch.ms(), 300, "the look after the answer, for all of them");
    }
    first.await.unwrap().unwrap();
    assert_eq!(log.calls(), 1);
    assert_eq!(here.handle().stats().replayed, 5);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_before_the_next_look_is_taken_over_when_it_ends() {
    let store = MemoryStore::default();
    let (inner, log) = Scripted::new();
    log.then([Step::Held, Step::Answer]);
    let elsewhere = over(config().lease(ms(250)), store.clone());
    let mut crashed = begin(&mut elsewhere.layer(inner.clone()), Ask(7));
    assert!(is_pending(&mut crashed));
    // It is never polled again, as after a crash.
    let here = over(config().poll_interval(ms(100)), store);
    let watch = Watch::start();
    let mut service = here.layer(inner);
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 2);
    assert_eq!((watch.ms(), log.at()[1]), (250, 250));
    assert_eq!(here.handle().stats().taken_over, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_same_layer_that_stands_still_is_taken_over_when_its_lease_ends() {
    let layer = layer(config().lease(ms(250)));
    let (mut service, log) = behind(&layer, [Step::Held, Step::Answer]);
    let mut stalled = begin(&mut service, Ask(7));
    assert!(is_pending(&mut stalled));
    let watch = Watch::start();
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 2);
    assert_eq!(watch.ms(), 250);
    // It wakes up, finds its claim lost, and reports it.
    log.open();
    let error = soon(stalled).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ClaimLost));
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2, "the one answer");
    assert_eq!(layer.handle().stats().fenced, 1);
}

/// A key has one queue for all its requests: a waiter must not get the answer to another request.
#[tokio::test(start_paused = true)]
async fn an_answer_is_handed_only_to_those_who_asked_for_the_same() {
    let layer =
        IdempotencyLayer::new(config(), MemoryStore::default(), tens).unwrap().fingerprint(digest);
    let (mut service, _) = behind(&layer, [Step::Held, Step::AnswerAfter(50)]);
    let mut first = begin(&mut service, Ask(71));
    assert!(is_pending(&mut first));
    let mut waits = [begin(&mut service, Ask(71)), begin(&mut service, Ask(71))];
    assert!(waits.iter_mut().all(is_pending));
    drop(first);
    // The key is free, and another request claims it before the waiters poll.
    let other = tokio::spawn(begin(&mut service, Ask(72)));
    for wait in waits {
        let error = soon(wait).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::KeyReused));
    }
    assert_eq!(other.await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_reserves_nothing_in_the_inner_service() {
    let limited = tower::limit::ConcurrencyLimitLayer::new(1);
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(100)]);
    let store = MemoryStore::default();
    let elsewhere = over(config(), store.clone());
    let first = tokio::spawn(begin(&mut elsewhere.layer(inner.clone()), Ask(7)));
    let here = IdempotencyLayer::new(config(), store, by_ask).unwrap();
    let service = here.layer(limited.layer(inner));
    // If the waiting call held the only permit, the other call would wait for it.
    let mut waiting = Box::pin(service.clone().oneshot(Ask(7)));
    assert!(is_pending(&mut waiting));
    drop(service.clone());
    let other = soon(service.oneshot(Ask(8))).await.unwrap();
    assert_eq!(other, 2);
    assert_eq!(soon(waiting).await.unwrap(), 1);
    first.await.unwrap().unwrap();
}
