//! Calls that wait for their tokens in the queue.

use buttress::ErrorKind;
use buttress::rate_limit::Config;

use super::{
    answers_in_turn, limiter, one_in_100_ms, passed_in_a_second, twenty_thousand_a_second,
};
use crate::support::{Ask, Step, Waiter, Watch, begin, behind, is_pending, ms, now, soon};

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_let_in_one_by_one_at_their_instants() {
    let layer = limiter(one_in_100_ms());
    let (service, log) = behind(&layer.clone().queued(), []);
    let order = answers_in_turn(&service, 5).await;
    assert_eq!(log.at(), [0, 100, 200, 300, 400]);
    assert_eq!(order, [1, 2, 3, 4, 5], "first come, first served");
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.peak_queued, stats.refused), (0, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_nothing_and_the_next_moves_up() {
    let layer = limiter(one_in_100_ms());
    let (mut service, log) = behind(&layer.clone().queued(), []);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    let (first, second) = (Waiter::new(), Waiter::new());
    let mut cancelled = begin(&mut service, Ask(1));
    let mut next = begin(&mut service, Ask(2));
    assert!(first.poll(&mut cancelled).is_pending());
    assert!(second.poll(&mut next).is_pending());
    tokio::time::advance(ms(50)).await;
    drop(cancelled);
    while second.wakes() > 0 {
        assert!(second.poll(&mut next).is_pending(), "woken to take over the timer at most");
    }
    tokio::time::advance(ms(49)).await;
    assert_eq!(second.wakes(), 0);
    tokio::time::advance(ms(1)).await;
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert!(now(next).is_ok());
    assert_eq!(log.at(), [0, 100], "at the instant of the one that left");
}

#[tokio::test(start_paused = true)]
async fn a_token_granted_to_one_who_leaves_goes_on_to_the_next() {
    let layer = limiter(one_in_100_ms());
    let (mut service, log) = behind(&layer.clone().queued(), []);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    let mut waiting: Vec<_> = (0..3)
        .map(|n| {
            let (waiter, mut call) = (Waiter::new(), begin(&mut service, Ask(n)));
            assert!(waiter.poll(&mut call).is_pending());
            (waiter, call)
        })
        .collect();
    tokio::time::advance(ms(100)).await;
    // The head is woken for the token and leaves. The next waiter, which got the token then, leaves
    // too.
    for n in 0..2 {
        assert_eq!(waiting[0].0.wakes(), 1, "waiter {n}");
        assert_eq!(layer.handle().stats().queued, if n == 0 { 3 } else { 1 });
        drop(waiting.remove(0));
    }
    let (waiter, last) = waiting.remove(0);
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(last), Ok(2));
    assert_eq!(log.at(), [0, 100]);
    assert_eq!(layer.handle().available(), 0, "one token was spent, not three");
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_longest_is_refused_at_once() {
    let layer = limiter(one_in_100_ms().max_wait(ms(200)));
    let (mut service, log) = behind(&layer.clone().queued(), []);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    let mut waiting = [begin(&mut service, Ask(1)), begin(&mut service, Ask(2))];
    assert!(waiting.iter_mut().all(is_pending));
    let error = now(begin(&mut service, Ask(3))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::RateLimited));
    assert_eq!(error.refusal().retry_after(), Some(ms(300)), "behind the waiters");
    for call in waiting {
        assert!(soon(call).await.is_ok());
    }
    assert_eq!(log.at(), [0, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let layer = limiter(one_in_100_ms().queue(1));
    let (mut service, _log) = behind(&layer.clone().queued(), []);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    let mut waits = begin(&mut service, Ask(1));
    assert!(is_pending(&mut waits));
    assert!(now(begin(&mut service, Ask(2))).is_err());
    drop(waits);
    assert!(is_pending(&mut begin(&mut service, Ask(3))), "its place is free again");
}

#[tokio::test(start_paused = true)]
async fn newcomers_do_not_pass_those_who_wait() {
    let layer = limiter(Config::new().max_tokens(2).refill(1, ms(100)));
    let handle = layer.handle();
    handle.try_acquire(1).unwrap();
    let mut two = Box::pin(handle.acquire(2));
    assert!(is_pending(&mut two));
    let error = handle.try_acquire(1).unwrap_err();
    assert_eq!(handle.available(), 1, "there is one, but not for a newcomer");
    assert_eq!(error.retry_after(), Some(ms(200)), "after the two that are owed");
    tokio::time::advance(ms(100)).await;
    now(two).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_a_slower_rate_makes_too_long_ends_at_its_bound() {
    let layer = limiter(one_in_100_ms().max_wait(ms(150)));
    let handle = layer.handle();
    handle.try_acquire(1).unwrap();
    let waiter = Waiter::new();
    let mut waits = Box::pin(handle.acquire(1));
    assert!(waiter.poll(&mut waits).is_pending());
    handle.reconfigure(&one_in_100_ms().refill(1, ms(1000)).max_wait(ms(150))).unwrap();
    tokio::time::advance(ms(149)).await;
    assert!(waiter.poll(&mut waits).is_pending());
    waiter.wakes();
    tokio::time::advance(ms(1)).await;
    assert_eq!(waiter.wakes(), 1);
    let error = now(waits).unwrap_err();
    assert_eq!((error.kind(), error.time_limit()), (ErrorKind::QueueTimeout, Some(ms(150))));
    assert_eq!(handle.stats().queue_timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_faster_rate_lets_those_who_wait_in_sooner() {
    let layer = limiter(one_in_100_ms());
    let handle = layer.handle();
    handle.try_acquire(1).unwrap();
    let waiter = Waiter::new();
    let mut waits = Box::pin(handle.acquire(1));
    assert!(waiter.poll(&mut waits).is_pending());
    handle.reconfigure(&one_in_100_ms().refill(1, ms(10))).unwrap();
    waiter.wakes();
    waiter.woken_after(10, |waiter| waiter.poll(&mut waits).is_pending()).await;
    now(waits).unwrap();
}

/// A clone is polled and called, a hundred milliseconds later.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_asks_the_service_at_its_turn() {
    let (mut service, log) = behind(&limiter(one_in_100_ms()).queued(), []);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!(log.clones(), 0, "no clone without a wait");
    let waits = begin(&mut service, Ask(1));
    assert_eq!((log.clones(), log.ready_polls()), (1, 1));
    assert!(soon(waits).await.is_ok());
    assert_eq!((log.clones(), log.ready_polls()), (1, 2), "polled at its turn");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_call_after_the_wait_does_not_stop_the_queue() {
    let layer = limiter(one_in_100_ms());
    let (mut service, _) = behind(&layer.clone().queued(), [Step::Answer, Step::PanicInCall]);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    let mut panics = begin(&mut service, Ask(1));
    let mut next = begin(&mut service, Ask(2));
    assert!(is_pending(&mut panics) && is_pending(&mut next));
    tokio::time::advance(ms(100)).await;
    crate::support::panic_of(|| is_pending(&mut panics));
    assert_eq!(soon(next).await, Ok(3));
    assert_eq!(layer.handle().stats().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_polled_twice_once_to_wait_and_once_to_go() {
    const WAITERS: u32 = 2000;
    let config = Config::new().max_tokens(1).refill(1000, ms(1000));
    let layer = limiter(config.queue(WAITERS).max_wait(ms(10_000)));
    let watch = Watch::start();
    let polls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let waiting: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (handle, polls) = (layer.handle(), polls.clone());
            tokio::spawn(async move {
                let mut acquire = Box::pin(handle.acquire(1));
                std::future::poll_fn(|cx| {
                    polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    acquire.as_mut().poll(cx)
                })
                .await
            })
        })
        .collect();
    for waits in waiting {
        waits.await.unwrap().unwrap();
    }
    assert_eq!(watch.ms(), u64::from(WAITERS) - 1, "one per millisecond, the first immediately");
    let polls = polls.load(std::sync::atomic::Ordering::SeqCst);
    assert!(polls <= 2 * WAITERS, "{polls} polls for {WAITERS} grants");
}

#[tokio::test(start_paused = true)]
async fn eight_tasks_reach_twenty_thousand_a_second() {
    let (service, log) = behind(&twenty_thousand_a_second().queued(), []);
    assert_eq!(passed_in_a_second(service, &log).await, 40 + 999 * 20);
}

/// After the last waiter has left in any way, tokens are available to newcomers again.
#[tokio::test(start_paused = true)]
async fn when_nobody_waits_any_more_newcomers_are_admitted_at_once() {
    for dropped in [false, true] {
        let handle = limiter(one_in_100_ms()).handle();
        handle.try_acquire(1).unwrap();
        let waiter = Waiter::new();
        let mut waits = Box::pin(handle.acquire(1));
        assert!(waiter.poll(&mut waits).is_pending());
        tokio::time::advance(ms(100)).await;
        if !dropped {
            assert_eq!(waiter.wakes(), 1);
            assert!(waiter.poll(&mut waits).is_ready());
            assert_eq!(waiter.wakes(), 0, "one that finds its token does not wake itself");
        }
        drop(waits);
        tokio::time::advance(ms(100)).await;
        assert!(handle.try_acquire(1).is_ok(), "dropped: {dropped}");
    }
}
