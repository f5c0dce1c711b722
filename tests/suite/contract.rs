//! The contract of every layer: one row per layer and mode, each run with every probe.

mod broken;
mod probes;
mod refusals;
mod subjects;
mod types;

use std::fmt;
use std::time::Duration;

use buttress::fallback::FallbackLayer;
use buttress::{Error, circuit_breaker};
use tower::{Layer, Service};

use crate::support::{AppError, Ask, Scripted, ms};
use subjects::*;

/// A service that a layer made of a [`Scripted`] service, with the same types and their bounds.
pub(crate) trait Stack:
    Service<Ask, Response = u32, Error = AppError, Future: Send + 'static>
    + Clone
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<S> Stack for S where
    S: Service<Ask, Response = u32, Error = AppError, Future: Send + 'static>
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// A layer under test.
pub(crate) trait Wraps:
    Layer<Scripted, Service: Stack> + Clone + fmt::Debug + Send + Sync + 'static
{
}

impl<L> Wraps for L where
    L: Layer<Scripted, Service: Stack> + Clone + fmt::Debug + Send + Sync + 'static
{
}

/// A layer and the readings of its handle.
pub(crate) struct Subject<L> {
    layer: L,
    /// A reading that a call leaves unchanged, however it ended.
    gauges: Box<dyn Fn() -> String>,
    /// A reading that a call leaves unchanged too, if it never reached the service.
    unspent: Box<dyn Fn() -> String>,
    /// The number of admitted calls.
    counted: Box<dyn Fn() -> u64>,
    /// The time after which the layer is in the state under test.
    warm_up: Duration,
}

impl<L: Wraps> Subject<L> {
    fn new(layer: L, counted: impl Fn() -> u64 + 'static) -> Self {
        Self {
            layer,
            gauges: Box::new(String::new),
            unspent: Box::new(String::new),
            counted: Box::new(counted),
            warm_up: Duration::ZERO,
        }
    }

    fn gauges<G: fmt::Debug>(mut self, gauges: impl Fn() -> G + 'static) -> Self {
        self.gauges = Box::new(move || format!("{:?}", gauges()));
        self
    }

    fn unspent<G: fmt::Debug>(mut self, unspent: impl Fn() -> G + 'static) -> Self {
        self.unspent = Box::new(move || format!("{:?}", unspent()));
        self
    }

    async fn warm(self) -> Self {
        tokio::time::advance(self.warm_up).await;
        self
    }
}

macro_rules! rows {
    ($($row:ident => $subject:expr;)*) => { $(
        mod $row {
            #[allow(unused_imports, reason = "each row needs some of them")]
            use super::*;

            rows!(@probes $subject;
                calls_only_values_that_were_polled_ready
                waits_for_a_pending_inner_and_is_woken_once
                gives_everything_back_when_a_call_is_dropped
                gives_everything_back_when_something_inside_panics
                is_not_woken_without_a_cause
                every_waiter_gets_there_by_wakes_alone
                eight_services_of_one_layer_share_its_state
                debug_texts_name_the_parts
            );
        }
    )* };
    (@probes $subject:expr; $($probe:ident)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $probe() {
            probes::$probe(|| $subject).await;
        }
    )* };
}

rows! {
    retrying => retry();
    breaker_consecutive => breaker(circuit_breaker::Config::new(), |layer| layer);
    breaker_count_window =>
        breaker(circuit_breaker::Config::new().failure_rate(0.5).count_window(20), |layer| layer);
    breaker_time_window =>
        breaker(circuit_breaker::Config::new().failure_rate(0.5).time_window(ms(9)), |layer| layer);
    breaker_slow_calls =>
        breaker(circuit_breaker::Config::new().slow_calls(ms(100), 0.5), |layer| layer);
    breaker_half_open => half_open(|layer| layer);
    breaker_backpressure => breaker(circuit_breaker::Config::new(), |layer| layer.backpressure());
    breaker_backpressure_half_open => half_open(|layer| layer.backpressure());
    rate_limit_refuse => rate_limit(plenty(), |layer| layer);
    rate_limit_queued => rate_limit(scarce(), |layer| layer.queued());
    rate_limit_backpressure => rate_limit(scarce(), |layer| layer.backpressure());
    rate_limit_fixed_window => rate_limit(plenty().fixed_window(50, ms(1000)), |layer| layer);
    rate_limit_sliding_window => rate_limit(plenty().sliding_window(50, ms(1000)), |layer| layer);
    rate_limit_fixed_window_queued =>
        rate_limit(scarce().fixed_window(1, ms(1)), |layer| layer.queued());
    rate_limit_sliding_window_backpressure =>
        rate_limit(scarce().sliding_window(1, ms(1)), |layer| layer.backpressure());
    bulkhead_refuse => bulkhead(|layer| layer);
    bulkhead_queued => bulkhead(|layer| layer.queued());
    bulkhead_backpressure => bulkhead(|layer| layer.backpressure());
    bulkhead_by_key => keyed_bulkhead();
    rate_limit_by_key => keyed_rate_limit();
    breaker_half_open_by_key => keyed_half_open();
    sidecar_with_every_part => sidecar();
    time_limiting => time_limit();
    fallback_value => fallback(FallbackLayer::value(0u32));
    fallback_error => fallback(FallbackLayer::from_error(from_error as fn(AppError) -> u32));
    fallback_request => {
        fallback(FallbackLayer::from_request(from_request as fn(Ask, AppError) -> Answer))
    };
    fallback_service => fallback(FallbackLayer::service(Scripted::new().0));
}

/// A balancer is not a layer, is always ready, and calls its endpoint at the first poll. So the probes that ask for the
/// opposite are not for it; `balance.rs` has tests in their place. Each service of this layer is a balancer over one
/// endpoint, and all of them have the same rules.
mod balancing {
    use super::*;

    rows!(@probes balance();
        calls_only_values_that_were_polled_ready
        gives_everything_back_when_something_inside_panics
        is_not_woken_without_a_cause
        every_waiter_gets_there_by_wakes_alone
        eight_services_of_one_layer_share_its_state
    );
}

/// A refusal as a response. Answers of the service count from 1.
const REFUSED: u32 = 0;

fn as_number(_: Error) -> u32 {
    REFUSED
}
