//! The layers under test, with their readings.

use std::sync::{Arc, Mutex};

use buttress::Outcome;
use buttress::balance::{self, Balance, Endpoints};
use buttress::bulkhead::{self, BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::discover::Instance;
use buttress::fallback::{self, FallbackLayer};
use buttress::rate_limit::{self, KeyedRateLimitLayer, RateLimitLayer};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::sidecar::{self, SidecarLayer};
use buttress::time_limit::{self, TimeLimitLayer};

use super::{Subject, Wraps};
use crate::support::{AppError, Ask, Scripted, ms};

pub(super) fn bulkhead<L: Wraps>(finish: impl Fn(BulkheadLayer) -> L) -> Subject<L> {
    let config = bulkhead::Config::new().max_concurrent(1).queue(8).count_calls(true);
    let layer = BulkheadLayer::new(config).unwrap();
    let (handle, counted) = (layer.handle(), layer.handle());
    Subject::new(finish(layer), move || counted.stats().admitted.unwrap()).gauges(move || {
        let stats = handle.stats();
        (stats.active, stats.queued)
    })
}

pub(super) fn rate_limit<L: Wraps>(
    config: rate_limit::Config,
    finish: impl Fn(RateLimitLayer) -> L,
) -> Subject<L> {
    let layer = RateLimitLayer::new(config.count_calls(true)).unwrap();
    let (gauges, unspent, counted) = (layer.handle(), layer.handle(), layer.handle());
    Subject::new(finish(layer), move || counted.stats().admitted.unwrap())
        .gauges(move || gauges.stats().queued)
        .unspent(move || (unspent.stats().queued, unspent.available()))
}

/// A limit that is ample for refusing layers, and so small for waiting layers that calls wait.
pub(super) fn plenty() -> rate_limit::Config {
    rate_limit::Config::new().max_tokens(50)
}

pub(super) fn scarce() -> rate_limit::Config {
    rate_limit::Config::new().max_tokens(1).refill(1, ms(1))
}

pub(super) fn breaker<L: Wraps>(
    config: circuit_breaker::Config,
    finish: impl Fn(CircuitBreakerLayer) -> L,
) -> Subject<L> {
    let config = config.panicked_calls(Outcome::Ignored).count_calls(true);
    let layer = CircuitBreakerLayer::new(config).unwrap();
    let (handle, counted) = (layer.handle(), layer.handle());
    Subject::new(finish(layer), move || counted.stats().admitted.unwrap()).gauges(move || {
        let stats = handle.stats();
        (stats.state, stats.window_calls, stats.failures, handle.check())
    })
}

/// A circuit whose next call is the only probe.
pub(super) fn half_open<L: Wraps>(finish: impl Fn(CircuitBreakerLayer) -> L) -> Subject<L> {
    let config = circuit_breaker::Config::new()
        .consecutive_failures(1)
        .open_for(ms(5))
        .panicked_calls(Outcome::Ignored)
        .count_calls(true);
    let layer = CircuitBreakerLayer::new(config).unwrap();
    layer.handle().try_acquire().unwrap().failure();
    let (handle, counted) = (layer.handle(), layer.handle());
    let subject = Subject::new(finish(layer), move || counted.stats().admitted.unwrap() - 1)
        .gauges(move || (handle.stats().failures, handle.check()));
    Subject { warm_up: ms(5), ..subject }
}

pub(super) fn retry() -> Subject<RetryLayer> {
    let config = retry::Config::new().backoff(Backoff::fixed(ms(1))).count_calls(true);
    let layer = RetryLayer::new(config).unwrap();
    let counted = layer.handle();
    Subject::new(layer, move || counted.stats().calls.unwrap())
}

pub(super) fn time_limit() -> Subject<TimeLimitLayer> {
    let config = time_limit::Config::new(ms(1000)).count_calls(true);
    let layer = TimeLimitLayer::new(config).unwrap();
    let (handle, counted) = (layer.handle(), layer.handle());
    Subject::new(layer, move || counted.stats().calls.unwrap())
        .gauges(move || handle.stats().timed_out)
}

pub(super) fn fallback<F>(layer: FallbackLayer<F>) -> Subject<FallbackLayer<F>>
where
    FallbackLayer<F>: Wraps,
{
    let layer = layer.config(fallback::Config::new().count_calls(true));
    let (handle, counted) = (layer.handle(), layer.handle());
    Subject::new(layer, move || counted.stats().calls.unwrap())
        .gauges(move || (handle.stats().used, handle.stats().failed))
}

/// All calls have one key.
pub(super) type Key = fn(&Ask) -> u32;

pub(super) fn key(_: &Ask) -> u32 {
    7
}

pub(super) fn keyed_bulkhead() -> Subject<KeyedBulkheadLayer<u32, Key>> {
    let config = bulkhead::Config::new().max_concurrent(1).count_calls(true);
    let layer = KeyedBulkheadLayer::new(config, 4, key as Key).unwrap();
    let (handle, counted) = (layer.handle(), layer.handle());
    let admitted = move || counted.get(&7).unwrap().stats().admitted.unwrap();
    Subject::new(layer, admitted)
        .gauges(move || handle.get(&7).map_or(0, |handle| handle.stats().active))
}

pub(super) fn keyed_rate_limit() -> Subject<KeyedRateLimitLayer<u32, Key>> {
    let layer = KeyedRateLimitLayer::new(plenty().count_calls(true), 4, key as Key).unwrap();
    let counted = layer.handle();
    Subject::new(layer, move || counted.stats().admitted.unwrap())
}

pub(super) fn keyed_half_open() -> Subject<KeyedCircuitBreakerLayer<u32, Key>> {
    let config = circuit_breaker::Config::new()
        .consecutive_failures(1)
        .open_for(ms(5))
        .panicked_calls(Outcome::Ignored)
        .count_calls(true);
    let layer = KeyedCircuitBreakerLayer::new(config, 4, key as Key).unwrap();
    layer.handle().try_acquire(&7).unwrap().failure();
    let circuit = layer.handle().get(&7).unwrap();
    let counted = circuit.clone();
    let subject = Subject::new(layer, move || counted.stats().admitted.unwrap() - 1)
        .gauges(move || (circuit.stats().failures, circuit.check()));
    Subject { warm_up: ms(5), ..subject }
}

pub(super) fn sidecar() -> Subject<SidecarLayer> {
    let breaker = circuit_breaker::Config::new().panicked_calls(Outcome::Ignored);
    let config = sidecar::Config::new().circuit_breaker(breaker).rate_limit(plenty());
    let layer = SidecarLayer::new(config).unwrap();
    let (handle, counted) = (layer.handle(), layer.handle());
    Subject::new(layer, move || counted.stats().requests)
        .gauges(move || (handle.circuit_breaker().stats().failures, handle.stats().failed))
}

pub(super) type Answer = std::future::Ready<Result<u32, AppError>>;

pub(super) fn from_error(_: AppError) -> u32 {
    0
}

pub(super) fn from_request(_: Ask, _: AppError) -> Answer {
    std::future::ready(Ok(0))
}

/// Makes balancers over one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Balances {
    rules: balance::Rules,
    /// Of the last one.
    handle: Arc<Mutex<Option<balance::Handle>>>,
}

impl tower::Layer<Scripted> for Balances {
    type Service = Balance<Scripted>;

    fn layer(&self, inner: Scripted) -> Self::Service {
        let set = Endpoints::new();
        set.replace(&[Instance::at("one")], |_| inner.clone());
        let balance = Balance::with_rules(set, &self.rules).unwrap();
        *self.handle.lock().unwrap() = Some(balance.handle());
        balance
    }
}

pub(super) fn balance() -> Subject<Balances> {
    let rules = balance::Rules::new(&balance::Config::new().count_calls(true)).unwrap();
    let layer = Balances { rules, handle: Arc::default() };
    let (handle, counted) = (layer.handle.clone(), layer.handle.clone());
    let stats = |handle: &Mutex<Option<balance::Handle>>| {
        handle.lock().unwrap().as_ref().map(balance::Handle::stats)
    };
    Subject::new(layer, move || stats(&counted).unwrap().calls.unwrap())
        .gauges(move || stats(&handle).map(|it| (it.pending, it.failures)))
}
