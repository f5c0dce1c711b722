//! A queue whose head does not move.

use buttress::ErrorKind;
use buttress::rate_limit::Config;

use super::{limiter, one_in_100_ms};
use crate::support::{Waiter, Watch, is_pending, ms, now, soon};

/// Regression: only the head was woken for its token until it took it. A head that was not polled
/// held up all waiters behind it.
#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_polled_costs_those_behind_nothing() {
    let handle = limiter(one_in_100_ms().max_wait(ms(1000))).handle();
    handle.try_acquire(1).unwrap();
    let mut head = Box::pin(handle.acquire(1));
    assert!(is_pending(&mut head));
    let watch = Watch::start();
    soon(handle.acquire(1)).await.unwrap();
    // Regression: its poll at 200 ms found one token in a bucket of one, which belonged to the
    // head.
    assert_eq!(watch.ms(), 200, "it waited for both tokens");
    now(head).unwrap();
    assert_eq!(watch.ms(), 200, "the head's token was kept for it");
}

/// Regression: a head that asked for more than a shrunk limiter can ever hold stayed until its
/// longest wait, and so did all waiters behind it.
#[tokio::test(start_paused = true)]
async fn a_head_that_can_never_be_served_is_refused_when_the_limit_shrinks_below_its_cost() {
    let config = |size| Config::new().max_tokens(size).refill(10, ms(1000)).max_wait(ms(60_000));
    let handle = limiter(config(10)).handle();
    handle.try_acquire(10).unwrap();
    let (large, small) = (Waiter::new(), Waiter::new());
    let mut head = Box::pin(handle.acquire(6));
    let mut next = Box::pin(handle.acquire(1));
    assert!(large.poll(&mut head).is_pending() && small.poll(&mut next).is_pending());
    handle.reconfigure(&config(6)).unwrap();
    assert!(large.poll(&mut head).is_pending(), "six fit into six");
    handle.reconfigure(&config(5)).unwrap();
    assert!(large.wakes() >= 1);
    let error = now(head).unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, None));
    small.wakes();
    tokio::time::advance(ms(99)).await;
    assert!(small.poll(&mut next).is_pending());
    small.wakes();
    tokio::time::advance(ms(1)).await;
    assert_eq!(small.wakes(), 1);
    now(next).unwrap();
    assert_eq!((handle.stats().queued, handle.stats().queue_timeouts), (0, 0));
}
