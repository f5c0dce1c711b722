//! A refusal that `poll_ready` decided: `call` reports the remaining wait.

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{Config, RateLimitLayer};
use tower::{Layer, Service};

use crate::support::{Ask, Scripted, Waiter, ms, now};

fn spent(config: Config) -> RateLimitLayer {
    let layer = RateLimitLayer::new(config.queue(0)).unwrap();
    layer.handle().try_acquire(layer.handle().available()).unwrap();
    layer
}

fn slow() -> Config {
    Config::new().max_tokens(1).refill(1, ms(1000))
}

/// Returns the hints of calls that are made 900 ms, and 1200 ms, after `poll_ready`.
async fn hints<S>(service: S, advance: [u64; 2]) -> [Option<std::time::Duration>; 2]
where
    S: Service<Ask, Response = u32, Error = crate::support::AppError> + Clone,
{
    let mut services = [service.clone(), service];
    for service in &mut services {
        assert!(Waiter::new().poll_ready(service).is_ready());
    }
    let [mut early, mut late] = services;
    tokio::time::advance(ms(advance[0])).await;
    let first = now(early.call(Ask(0))).unwrap_err().refusal().retry_after();
    tokio::time::advance(ms(advance[1] - advance[0])).await;
    [first, now(late.call(Ask(0))).unwrap_err().refusal().retry_after()]
}

#[tokio::test(start_paused = true)]
async fn a_limiter_says_what_is_left_of_the_time() {
    for config in [slow(), slow().fixed_window(1, ms(1000)), slow().sliding_window(1, ms(1000))] {
        let layer = spent(config);
        let left = hints(layer.layer(Scripted::new().0), [900, 999]).await;
        assert_eq!(left, [Some(ms(100)), Some(ms(1))]);
    }
    for config in [slow(), slow().fixed_window(1, ms(1000)), slow().sliding_window(1, ms(1000))] {
        let layer = spent(config).queued();
        let left = hints(layer.layer(Scripted::new().0), [900, 1200]).await;
        assert_eq!(left, [Some(ms(100)), Some(ms(0))], "and nothing where it has passed");
    }
}

#[tokio::test(start_paused = true)]
async fn the_hint_is_that_of_the_cost_which_the_call_knows() {
    let layer = spent(Config::new().max_tokens(5).refill(1, ms(1000)));
    let mut service = layer.clone().cost(|ask: &Ask| ask.0).layer(Scripted::new().0);
    for (cost, left) in [(3, Some(ms(2900))), (6, None), (0, Some(ms(0)))] {
        let mut service = service.clone();
        assert!(Waiter::new().poll_ready(&mut service).is_ready());
        tokio::time::advance(ms(100)).await;
        let error = now(service.call(Ask(cost))).unwrap_err();
        assert_eq!(error.refusal().retry_after(), left, "cost {cost}");
        layer.handle().reconfigure(&Config::new().max_tokens(5).refill(1, ms(1000))).unwrap();
        tokio::time::advance(ms(10_000)).await;
        layer.handle().try_acquire(5).unwrap();
    }
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_says_what_is_left_of_its_open_time() {
    let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(1000));
    let layer = CircuitBreakerLayer::new(config).unwrap();
    layer.handle().try_acquire().unwrap().failure();
    let left = hints(layer.layer(Scripted::new().0), [900, 1200]).await;
    assert_eq!(left, [Some(ms(100)), Some(ms(0))]);
}
