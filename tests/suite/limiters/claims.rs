//! A permit of a waiter that does not claim it goes to the next waiter.

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker;
use buttress::rate_limit::{self, RateLimitLayer};
use tower::{Layer, Service};

use crate::support::{Ask, Scripted, Waiter, Watch, begin, is_pending, ms, now, soon};

fn one() -> bulkhead::Config {
    bulkhead::Config::new().max_concurrent(1)
}

async fn ready<S: Service<Ask>>(service: &mut S) -> Result<(), S::Error> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_not_claimed_within_a_second_goes_to_the_next() {
    let layer = BulkheadLayer::new(one()).unwrap();
    let handle = layer.handle();
    let mut a = layer.backpressure().layer(Scripted::new().0);
    let (mut b, mut c) = (a.clone(), a.clone());
    let mut running = begin(&mut a, Ask(0));
    let first = Waiter::new();
    assert!(first.poll_ready(&mut b).is_pending());
    let other = tokio::spawn(async move {
        ready(&mut c).await.unwrap();
        c
    });
    tokio::time::advance(ms(10_300)).await;
    assert!(!is_pending(&mut running), "A is over");
    assert!(first.wakes() >= 1);
    let watch = Watch::start();
    let mut c = soon(other).await.unwrap();
    assert_eq!(watch.ms(), 1000);
    // B kept its place: it comes before a newcomer.
    let mut d = b.clone();
    let late = Waiter::new();
    assert!(late.poll_ready(&mut d).is_pending());
    assert!(first.poll_ready(&mut b).is_pending());
    first.wakes();
    assert_eq!(now(c.call(Ask(1))), Ok(2));
    assert_eq!((first.wakes(), late.wakes()), (1, 0));
    assert!(first.poll_ready(&mut b).is_ready());
    drop((b, c));
    assert!(late.poll_ready(&mut d).is_ready());
    drop(d);
    assert_eq!((handle.stats().active, handle.stats().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_claims_within_the_second_keeps_its_permit() {
    let layer = BulkheadLayer::new(one()).unwrap();
    let running = layer.handle().try_acquire().unwrap();
    let mut b = layer.clone().backpressure().layer(Scripted::new().0);
    let mut c = b.clone();
    let (first, second) = (Waiter::new(), Waiter::new());
    assert!(first.poll_ready(&mut b).is_pending() && second.poll_ready(&mut c).is_pending());
    drop(running);
    tokio::time::advance(ms(999)).await;
    assert!(first.poll_ready(&mut b).is_ready());
    tokio::time::advance(ms(3_600_000)).await;
    assert!(second.poll_ready(&mut c).is_pending(), "the ready service holds it");
    assert_eq!(layer.handle().stats().active, 1);
}

#[tokio::test(start_paused = true)]
async fn many_that_do_not_come_cost_a_second_each_and_newcomers_pass_them() {
    let layer = BulkheadLayer::new(one()).unwrap();
    let handle = layer.handle();
    let running = handle.try_acquire().unwrap();
    let service = layer.backpressure().layer(Scripted::new().0);
    let mut gone: Vec<_> = (0..3).map(|_| service.clone()).collect();
    for service in &mut gone {
        assert!(Waiter::new().poll_ready(service).is_pending());
    }
    let mut last = service.clone();
    let other = tokio::spawn(async move { ready(&mut last).await });
    tokio::task::yield_now().await;
    drop(running);
    let watch = Watch::start();
    soon(other).await.unwrap().unwrap();
    assert_eq!(watch.ms(), 3000);
    assert_eq!(handle.stats().queued, 3, "they still wait");
    // The permit was released with the service, and no waiter is there to take it except a
    // newcomer.
    drop(handle.try_acquire().unwrap());
    drop(gone);
    assert_eq!((handle.stats().active, handle.stats().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_granted_to_a_queued_call_that_is_not_polled_goes_on_too() {
    let layer = BulkheadLayer::new(one().queue(8)).unwrap();
    let handle = layer.handle();
    let mut service = layer.queued().layer(Scripted::new().0);
    let mut kept = {
        let running = handle.try_acquire().unwrap();
        let mut kept = begin(&mut service, Ask(0));
        assert!(is_pending(&mut kept));
        drop(running);
        kept
    };
    let watch = Watch::start();
    drop(soon(handle.acquire()).await.unwrap());
    assert_eq!(watch.ms(), 1000);
    assert_eq!(now(&mut kept), Ok(1), "and it can still run");
    drop(kept);
    assert_eq!((handle.stats().active, handle.stats().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_not_polled_lets_the_permit_go() {
    let handle = BulkheadLayer::new(one().queue(8)).unwrap().handle();
    let running = handle.try_acquire().unwrap();
    let mut kept = Box::pin(handle.acquire());
    assert!(is_pending(&mut kept));
    drop(running);
    let watch = Watch::start();
    let permit = soon(handle.acquire()).await.unwrap();
    assert_eq!(watch.ms(), 1000);
    assert!(is_pending(&mut kept));
    drop(permit);
    drop(now(kept).unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_after_its_longest_wait_is_told_so() {
    let handle = BulkheadLayer::new(one().queue(8).max_wait(ms(500))).unwrap().handle();
    let running = handle.try_acquire().unwrap();
    let mut kept = Box::pin(handle.acquire());
    assert!(is_pending(&mut kept));
    drop(running);
    tokio::time::advance(ms(1000)).await;
    let permit = handle.try_acquire();
    assert!(permit.is_err(), "looking does not settle");
    drop(soon(handle.acquire()).await.unwrap());
    let error = now(kept).unwrap_err();
    assert_eq!(error.kind(), buttress::ErrorKind::QueueTimeout);
    assert_eq!(handle.stats().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn the_permits_of_one_key_are_claimed_like_all_others() {
    let keyed = bulkhead::KeyedBulkheadLayer::new(one(), 4, |ask: &Ask| ask.0).unwrap();
    let running = keyed.handle().try_acquire(&7).unwrap();
    let layer = BulkheadLayer::from_handle(&keyed.handle().get(&7).unwrap()).backpressure();
    let mut b = layer.layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut b).is_pending());
    let mut c = b.clone();
    assert!(Waiter::new().poll_ready(&mut c).is_pending());
    drop(running);
    let watch = Watch::start();
    soon(ready(&mut c)).await.unwrap();
    assert_eq!(watch.ms(), 1000);
}

/// The service that polls reserves a probe. No probe is kept for a service that was only woken.
#[tokio::test(start_paused = true)]
async fn a_circuit_keeps_no_probe_for_one_that_does_not_ask_again() {
    let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(100));
    let layer = circuit_breaker::CircuitBreakerLayer::new(config).unwrap();
    layer.handle().try_acquire().unwrap().failure();
    let mut b = layer.backpressure().layer(Scripted::new().0);
    let mut c = b.clone();
    let first = Waiter::new();
    assert!(first.poll_ready(&mut b).is_pending());
    let watch = Watch::start();
    soon(ready(&mut c)).await.unwrap();
    assert_eq!(watch.ms(), 100);
    assert!(first.wakes() >= 1, "it was woken");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_claim_can_be_set_and_changed() {
    let config = one().claim_within(ms(200));
    let layer = BulkheadLayer::new(config.clone()).unwrap();
    let handle = layer.handle();
    for within in [200, 50] {
        handle.reconfigure(&one().claim_within(ms(within))).unwrap();
        let running = handle.try_acquire().unwrap();
        let mut b = layer.clone().backpressure().layer(Scripted::new().0);
        let mut c = b.clone();
        assert!(Waiter::new().poll_ready(&mut b).is_pending());
        assert!(Waiter::new().poll_ready(&mut c).is_pending());
        drop(running);
        let watch = Watch::start();
        soon(ready(&mut c)).await.unwrap();
        assert_eq!(watch.ms(), within);
    }
    let refused = handle.reconfigure(&one().claim_within(ms(0))).unwrap_err();
    assert_eq!((refused.field(), refused.bound()), ("claim-within", "longer than zero"));
    let config = rate_limit::Config::new().claim_within(ms(0));
    assert_eq!(RateLimitLayer::new(config).unwrap_err().field(), "claim-within");
}

/// One token per hour. B polls once; without a claim C would wait for the second token.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_claimed_goes_to_the_next() {
    const HOUR: u64 = 3_600_000;
    let hourly = |config: rate_limit::Config| config.max_tokens(1).refill(1, ms(HOUR));
    for config in [
        hourly(rate_limit::Config::new()),
        rate_limit::Config::new().fixed_window(1, ms(HOUR)),
        rate_limit::Config::new().sliding_window(1, ms(HOUR)),
    ] {
        let layer = RateLimitLayer::new(config).unwrap();
        layer.handle().try_acquire(1).unwrap();
        let mut b = layer.clone().backpressure().layer(Scripted::new().0);
        let mut c = b.clone();
        let first = Waiter::new();
        assert!(first.poll_ready(&mut b).is_pending());
        let watch = Watch::start();
        ready(&mut c).await.unwrap();
        assert!((HOUR + 1000..=HOUR + 2000).contains(&watch.ms()), "{} ms", watch.ms());
        assert!(first.wakes() >= 1);
        // B is the next, at the end of the second hour.
        assert_eq!(now(c.call(Ask(0))), Ok(1));
        ready(&mut b).await.unwrap();
        assert!(watch.ms() >= 2 * HOUR, "{} ms", watch.ms());
    }
}
