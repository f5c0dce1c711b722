//! A limit that was used up stays used up when it is raised.

use buttress::rate_limit::{Config, Handle, KeyedRateLimitLayer, RateLimitLayer};

use crate::support::{is_pending, ms, now, soon};

fn limiter(config: Config) -> Handle {
    RateLimitLayer::new(config).unwrap().handle()
}

fn fixed(limit: u32, period: u64) -> Config {
    Config::new().fixed_window(limit, ms(period))
}

fn sliding(limit: u32, period: u64) -> Config {
    Config::new().sliding_window(limit, ms(period))
}

/// Returns a limiter of one token, which is spent, and whose rules changed 400 ms later.
async fn changed_after_400_ms(first: Config, second: Config) -> Handle {
    let handle = limiter(first);
    handle.try_acquire(1).unwrap();
    tokio::time::advance(ms(400)).await;
    handle.reconfigure(&second).unwrap();
    handle
}

#[tokio::test(start_paused = true)]
async fn a_fixed_window_that_is_raised_admits_more_from_the_next_window_on() {
    let handle = changed_after_400_ms(fixed(1, 1000), fixed(3, 1000)).await;
    assert_eq!((handle.available(), handle.stats().full_in), (0, ms(600)));
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(600)));
    tokio::time::advance(ms(599)).await;
    assert_eq!(handle.available(), 0);
    tokio::time::advance(ms(1)).await;
    handle.try_acquire(3).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sliding_window_that_is_raised_admits_more_a_period_after_the_change() {
    let handle = changed_after_400_ms(sliding(1, 1000), sliding(3, 1000)).await;
    assert_eq!(handle.available(), 0);
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(600)));
    assert_eq!(handle.try_acquire(2).unwrap_err().retry_after(), Some(ms(1000)));
    tokio::time::advance(ms(600)).await;
    assert_eq!(handle.available(), 1, "the one that was spent");
    tokio::time::advance(ms(399)).await;
    assert_eq!(handle.available(), 1);
    tokio::time::advance(ms(1)).await;
    assert_eq!(handle.available(), 3, "and the two new ones");
}

#[tokio::test(start_paused = true)]
async fn lowering_holds_at_once_and_takes_back_what_was_not_usable_yet() {
    for config in [fixed as fn(u32, u64) -> Config, sliding] {
        let handle = limiter(config(10, 1000));
        handle.try_acquire(4).unwrap();
        handle.reconfigure(&config(20, 1000)).unwrap();
        assert_eq!(handle.available(), 6);
        handle.reconfigure(&config(15, 1000)).unwrap();
        assert_eq!(handle.available(), 6);
        handle.reconfigure(&config(5, 1000)).unwrap();
        assert_eq!(handle.available(), 1, "four of five are spent");
        handle.reconfigure(&config(3, 1000)).unwrap();
        assert_eq!(handle.available(), 0);
        handle.reconfigure(&config(8, 1000)).unwrap();
        assert_eq!(handle.available(), 0, "up and down again is not a way to refill");
        tokio::time::advance(ms(1000)).await;
        assert_eq!((handle.available(), handle.stats().full_in), (8, ms(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_period_does_not_refill_a_window() {
    for config in [fixed as fn(u32, u64) -> Config, sliding] {
        let handle = limiter(config(2, 60_000));
        handle.try_acquire(2).unwrap();
        tokio::time::advance(ms(30_500)).await;
        handle.reconfigure(&config(2, 1000)).unwrap();
        assert_eq!(handle.available(), 0);
        tokio::time::advance(ms(1000)).await;
        assert_eq!(handle.available(), 2);
    }
    let handle = limiter(fixed(2, 1000));
    tokio::time::advance(ms(30_500)).await;
    handle.try_acquire(2).unwrap();
    handle.reconfigure(&fixed(2, 60_000)).unwrap();
    assert_eq!(handle.stats().full_in, ms(29_500), "a window of a minute ends with its minute");
}

#[tokio::test(start_paused = true)]
async fn buckets_fill_at_their_rate_when_they_are_raised() {
    let config = |size| Config::new().max_tokens(size).refill(10, ms(1000));
    let handle = limiter(config(1));
    handle.try_acquire(1).unwrap();
    handle.reconfigure(&config(3)).unwrap();
    assert_eq!((handle.available(), handle.stats().full_in), (0, ms(300)));
    let layer = KeyedRateLimitLayer::new(config(1), 8, |n: &u32| *n).unwrap();
    layer.handle().try_acquire(&7, 1).unwrap();
    layer.handle().reconfigure(&config(3)).unwrap();
    assert_eq!(layer.handle().available(&7), Some(0));
    tokio::time::advance(ms(100)).await;
    assert_eq!((handle.available(), layer.handle().available(&7)), (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn waiters_get_what_came_before_a_change_and_no_more() {
    for config in [fixed as fn(u32, u64) -> Config, sliding] {
        let handle = limiter(config(1, 100).max_wait(ms(1000)));
        handle.try_acquire(1).unwrap();
        let mut first = Box::pin(handle.acquire(1));
        let mut second = Box::pin(handle.acquire(1));
        assert!(is_pending(&mut first) && is_pending(&mut second));
        handle.reconfigure(&config(3, 100).max_wait(ms(1000))).unwrap();
        assert!(is_pending(&mut first), "nothing came free");
        soon(first).await.unwrap();
        now(second).unwrap();
    }
}
