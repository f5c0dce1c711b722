//! Layers over a drifting counter, with a paused clock as the system clock.

use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use super::*;
use crate::vocabulary::clock::{Clock, Source};
use crate::{circuit_breaker, rate_limit, time_limit};

/// A counter of nanoseconds that is wrong.
#[derive(Debug, Default)]
pub(super) struct Simulated {
    ppm: i64,
    ahead: AtomicU64,
}

impl Simulated {
    pub(super) fn counter(&self, system: u64) -> u64 {
        let drift = system as i64 / 1000 * self.ppm / 1000;
        system.wrapping_add_signed(drift).wrapping_add(self.ahead.load(Ordering::Relaxed))
    }
}

/// Returns a fast clock that follows the paused clock by a counter with an error of `ppm`.
fn fast(ppm: i64) -> (Clock, &'static Simulated) {
    let origin = tokio::time::Instant::now().into_std();
    let simulated = Some(Simulated { ppm, ..Simulated::default() });
    let machine = Machine { counter: quanta::Clock::mock().0, origin, simulated };
    let fast: &'static Fast = Box::leak(Box::new(Fast::new(machine)));
    let Some(simulated) = &fast.readings.simulated else { unreachable!("made above") };
    (Clock { source: Source::Fast(fast) }, simulated)
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}

const BOUND: Duration = Duration::from_micros(1);
const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// Calls a service until it refuses.
async fn drain<S: Service<(), Error = crate::Error>>(service: &mut S) -> u64 {
    let mut admitted = 0;
    while service.call(()).await.is_ok() {
        admitted += 1;
    }
    admitted
}

/// Passes a day in steps of about a minute, and runs `at` after each.
async fn pass_a_day(mut at: impl AsyncFnMut()) {
    let start = tokio::time::Instant::now();
    let mut step = Duration::from_millis(59_000);
    while start.elapsed() < DAY {
        step = Duration::from_nanos(50_000_000_000 + step.as_nanos() as u64 * 7919 % 9_999_999_967);
        tokio::time::advance(step).await;
        at().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// A drift of 8.6 seconds would admit 8 more or fewer calls.
    #[test]
    fn a_limiter_admits_in_a_day_what_its_rate_says(ppm in prop_oneof![Just(-100i64), Just(100), -100..=100i64]) {
        paused(async {
            let (clock, _) = fast(ppm);
            let config = rate_limit::Config::new().max_tokens(100).refill(1, Duration::from_secs(1));
            let layer = config.clock(clock).build().unwrap();
            let mut service = layer.layer(service_fn(async |()| Ok::<_, crate::Error>(())));
            let start = tokio::time::Instant::now();
            let mut admitted = drain(&mut service).await;
            pass_a_day(async || {
                admitted += drain(&mut service).await;
                let nanos = start.elapsed().as_nanos() as u64;
                let exact = 100 + nanos / 1_000_000_000;
                // Within a microsecond of its due time a token may be there or not.
                assert!(admitted.abs_diff(exact) <= 1, "{admitted} for {exact} at {ppm} ppm");
            })
            .await;
        });
    }

    /// The drift of a day would be 8.6 seconds.
    #[test]
    fn a_circuit_opens_for_its_open_time(ppm in prop_oneof![Just(-100i64), Just(100), -100..=100i64]) {
        paused(async {
            let (clock, _) = fast(ppm);
            let open_for = Duration::from_secs(40_000);
            let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(open_for);
            let circuit = config.clock(clock).build().unwrap().handle();
            pass_a_day(async || ()).await;
            for _ in 0..3 {
                circuit.try_acquire().unwrap().failure();
                tokio::time::advance(open_for - BOUND).await;
                let refused = circuit.try_acquire().err().and_then(|refusal| refusal.retry_after());
                assert!(refused.is_some_and(|left| left <= 2 * BOUND), "{refused:?} at {ppm} ppm");
                tokio::time::advance(2 * BOUND).await;
                circuit.try_acquire().unwrap().success();
            }
        });
    }

    /// tokio's timer rounds a deadline up to a millisecond.
    #[test]
    fn a_time_limit_ends_at_its_length(ppm in prop_oneof![Just(-100i64), Just(100), -100..=100i64]) {
        paused(async {
            let (clock, _) = fast(ppm);
            let limit = Duration::from_secs(40_000);
            let layer = time_limit::Config::new(limit).clock(clock).build().unwrap();
            let mut service = layer.layer(service_fn(async |()| {
                pending::<()>().await;
                Ok::<_, crate::Error>(())
            }));
            pass_a_day(async || ()).await;
            let mut call = std::pin::pin!(service.call(()));
            assert!(poll_once(call.as_mut()).await.is_pending());
            tokio::time::advance(limit - 2 * MS).await;
            assert!(poll_once(call.as_mut()).await.is_pending(), "{ppm} ppm");
            tokio::time::advance(4 * MS).await;
            assert!(poll_once(call.as_mut()).await.is_ready(), "{ppm} ppm");
        });
    }
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn a_limiter_gives_a_millisecond_more_when_the_counter_jumps() {
    paused(async {
        let (clock, simulated) = fast(0);
        let config =
            rate_limit::Config::new().max_tokens(1000).refill(1000, Duration::from_secs(1));
        let layer = config.clock(clock).build().unwrap();
        let mut service = layer.layer(service_fn(async |()| Ok::<_, crate::Error>(())));
        assert_eq!(drain(&mut service).await, 1000);
        // A virtual machine is suspended for an hour: the counter ran, the system clock did not.
        simulated.ahead.store(3_600_000_000_000, Ordering::Relaxed);
        assert_eq!(drain(&mut service).await, 1);
        tokio::time::advance(100 * MS).await;
        assert_eq!(drain(&mut service).await, 99);
        // The counter goes back, as when a virtual machine is restored.
        simulated.ahead.store(0, Ordering::Relaxed);
        tokio::time::advance(100 * MS).await;
        assert!(drain(&mut service).await.abs_diff(100) <= 1);
    });
}

#[test]
fn the_clock_of_this_machine_follows_the_system_clock() {
    let clock = Clock::fast();
    let start = Instant::now();
    let mut last = clock.now();
    // A clock that stands still fails the test. The limit is longer than any suspension of a
    // thread.
    while last < start + 20 * MS {
        assert!(start.elapsed() < Duration::from_secs(60), "it stands still");
        let now = clock.now();
        assert!(now >= last);
        assert!(now <= Instant::now() + MS);
        last = now;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_still_beside_the_fast_one() {
    let _fast = Clock::fast();
    let paused = Clock::default();
    let start = paused.now();
    assert_eq!(paused.now(), start);
    tokio::time::advance(DAY).await;
    assert_eq!(paused.now(), start + DAY);
    // The timers of the fast clock are tokio's.
    Clock::fast().sleep_until(start + 2 * DAY).await;
    assert!(paused.now() >= start + 2 * DAY);
}
