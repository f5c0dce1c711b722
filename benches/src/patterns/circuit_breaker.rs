//! Rows of the circuit breaker.

use std::time::Duration;

use buttress::circuit_breaker::{CircuitBreaker, CircuitBreakerLayer, Config};
use buttress::{AsError, ServiceErrors};
use tower::Layer;

use super::{BUTTRESS, FLOOR};
use crate::floors::circuit_breaker::{Breaker, Last64, Seconds, Streak};
use crate::subject::{Meter, call_once};
use crate::workload::{FAIL, FailsEveryOther, Obeys, Succeeds};

const CONSECUTIVE: &str = "circuit breaker: closed, failures in a row";
const COUNT: &str = "circuit breaker: closed, last 100 calls";
const TIME: &str = "circuit breaker: closed, last 10 s";
const FAILED: &str = "circuit breaker: closed, last 100 calls, every other call fails";
const OPEN: &str = "circuit breaker: open, refusal";

pub fn visit(meter: &mut impl Meter) {
    meter.shared(CONSECUTIVE, BUTTRESS, || buttress(Config::new(), Succeeds));
    meter.shared(CONSECUTIVE, FLOOR, || Breaker::<_, Streak>::new(Succeeds));

    meter.shared(COUNT, BUTTRESS, || buttress(by_count(), Succeeds));
    meter.shared(COUNT, FLOOR, || Breaker::<_, Last64>::new(Succeeds));

    meter.shared(TIME, BUTTRESS, || buttress(by_time(), Succeeds));
    meter.shared(TIME, FLOOR, || Breaker::<_, Seconds>::new(Succeeds));

    // The circuit would open at nine of ten.
    meter.shared(FAILED, BUTTRESS, || buttress(by_count().failure_rate(0.9), FailsEveryOther));
    meter.shared(FAILED, FLOOR, || Breaker::<_, Last64>::new(FailsEveryOther));

    meter.shared(OPEN, BUTTRESS, || {
        let mut service = buttress(Config::new().open_for(Duration::from_secs(3600)), Obeys);
        assert!((0..5).all(|_| !call_once(&mut service, FAIL)), "every one of them fails");
        service
    });
    meter.shared(OPEN, FLOOR, || Breaker::<_, Streak>::new(Succeeds).open());
}

fn by_count() -> Config {
    Config::new().failure_rate(0.5).count_window(100).min_calls(100)
}

fn by_time() -> Config {
    Config::new().failure_rate(0.5).time_window(Duration::from_secs(10)).min_calls(100)
}

fn buttress<S>(config: Config, inner: S) -> CircuitBreaker<S, ServiceErrors, AsError> {
    CircuitBreakerLayer::new(config).expect("valid").layer(inner)
}
