//! Rows of the circuit breaker.

use std::time::Duration;

use buttress::circuit_breaker::{CircuitBreaker, CircuitBreakerLayer, Config};
use buttress::{AsError, ServiceErrors};
use tower::{Layer, Service};

use super::{BUTTRESS, FLOOR};
use crate::floors::circuit_breaker::{Breaker, Last64, Seconds, Streak};
use crate::peers::recloser::Reclosing;
use crate::peers::{
    FAILSAFE, RECLOSER, SEATBELT, TOWER_RESILIENCE, failsafe, seatbelt, tower_resilience,
};
use crate::row::Row;
use crate::subject::{Meter, call_once};
use crate::workload::{FAIL, FailsEveryOther, FailsOneInHundred, Obeys, Succeeds};

pub const CONSECUTIVE: Row = Row::all("circuit breaker: closed, failures in a row");
pub const COUNT: Row = Row::all("circuit breaker: closed, last 100 calls");
pub const TIME: Row = Row::all("circuit breaker: closed, last 10 s");
pub const FAILED: Row =
    Row::every_other("circuit breaker: closed, last 100 calls, every other call fails");
pub const COUNT_ONE_FAILED: Row =
    Row::one_in_hundred_fails("circuit breaker: closed, last 100 calls, 1 in 100 fails");
pub const CONSECUTIVE_FAILED: Row =
    Row::every_other("circuit breaker: closed, failures in a row, every other call fails");
pub const TIME_FAILED: Row =
    Row::every_other("circuit breaker: closed, last 10 s, every other call fails");
pub const OPEN: Row = Row::none("circuit breaker: open, refusal");

pub const NOTES: &[&str] = &[
    "Circuit breaker, last 100 calls: tower-resilience counts all calls since it closed; its \
     window does not slide. The floor's window is 64 calls, one word.",
    "Circuit breaker, last 100 calls, 1 in 100 fails: the window always holds one failure, as \
     the window of a service in use does. A window without failures is the cheaper path of \
     buttress.",
    "Circuit breaker, last 10 s: tower-resilience visits every call of the window at each call, \
     so its figure grows with the rate of calls. Its instructions are measured with about 800 \
     calls in the window, its ns with as many as fit. failsafe keeps a moving average instead \
     of a window.",
    "Circuit breaker: failsafe's breaker does not count calls, recloser's and seatbelt's do not \
     count failures in a row. recloser has no time window and seatbelt no count window.",
    "Circuit breaker, every other call fails: the windows would open at nine of ten.",
    "Circuit breaker, open: buttress and the floor report when to retry; failsafe and recloser \
     do not. recloser makes the call to the inner service, and drops its future.",
];

pub fn visit(meter: &mut impl Meter) {
    let window = meter.window();
    meter.shared(CONSECUTIVE, BUTTRESS, || buttress(Config::new(), Succeeds));
    meter.shared(CONSECUTIVE, FLOOR, || Breaker::<_, Streak>::new(Succeeds));
    meter.shared(CONSECUTIVE, FAILSAFE, || failsafe::consecutive(Succeeds));
    meter.shared(CONSECUTIVE, TOWER_RESILIENCE, || tower_resilience::consecutive(Succeeds));

    meter.shared(COUNT, BUTTRESS, || buttress(by_count(), Succeeds));
    meter.shared(COUNT, FLOOR, || Breaker::<_, Last64>::new(Succeeds));
    meter.shared(COUNT, RECLOSER, || Reclosing::new(Succeeds, 100, 0.5));
    meter.shared(COUNT, TOWER_RESILIENCE, || tower_resilience::count_window(Succeeds, 0.5));

    meter.shared(COUNT_ONE_FAILED, BUTTRESS, || buttress(by_count(), FailsOneInHundred));
    meter.shared(COUNT_ONE_FAILED, FLOOR, || Breaker::<_, Last64>::new(FailsOneInHundred));
    meter.shared(COUNT_ONE_FAILED, RECLOSER, || Reclosing::new(FailsOneInHundred, 100, 0.5));
    meter.shared(COUNT_ONE_FAILED, TOWER_RESILIENCE, || {
        tower_resilience::count_window(FailsOneInHundred, 0.5)
    });

    meter.shared(TIME, BUTTRESS, move || buttress(by_time(window), Succeeds));
    meter.shared(TIME, FLOOR, || Breaker::<_, Seconds>::new(Succeeds));
    meter.shared(TIME, FAILSAFE, move || failsafe::time_window(Succeeds, window, 0.5));
    meter.shared(TIME, SEATBELT, move || seatbelt::time_window(Succeeds, window, 100, 0.5));
    meter.shared(TIME, TOWER_RESILIENCE, move || {
        tower_resilience::time_window(Succeeds, window, 0.5)
    });

    meter.shared(CONSECUTIVE_FAILED, BUTTRESS, || buttress(Config::new(), FailsEveryOther));
    meter.shared(CONSECUTIVE_FAILED, FLOOR, || Breaker::<_, Streak>::new(FailsEveryOther));
    meter.shared(CONSECUTIVE_FAILED, FAILSAFE, || failsafe::consecutive(FailsEveryOther));
    meter.shared(CONSECUTIVE_FAILED, TOWER_RESILIENCE, || {
        tower_resilience::consecutive(FailsEveryOther)
    });

    // The windows would open at nine of ten.
    meter.shared(FAILED, BUTTRESS, || buttress(by_count().failure_rate(0.9), FailsEveryOther));
    meter.shared(FAILED, FLOOR, || Breaker::<_, Last64>::new(FailsEveryOther));
    meter.shared(FAILED, RECLOSER, || Reclosing::new(FailsEveryOther, 100, 0.9));
    meter.shared(FAILED, TOWER_RESILIENCE, || tower_resilience::count_window(FailsEveryOther, 0.9));

    meter.shared(TIME_FAILED, BUTTRESS, move || {
        buttress(by_time(window).failure_rate(0.9), FailsEveryOther)
    });
    meter.shared(TIME_FAILED, FLOOR, || Breaker::<_, Seconds>::new(FailsEveryOther));
    meter
        .shared(TIME_FAILED, FAILSAFE, move || failsafe::time_window(FailsEveryOther, window, 0.9));
    meter.shared(TIME_FAILED, SEATBELT, move || {
        seatbelt::time_window(FailsEveryOther, window, 100, 0.9)
    });
    meter.shared(TIME_FAILED, TOWER_RESILIENCE, move || {
        tower_resilience::time_window(FailsEveryOther, window, 0.9)
    });

    meter.shared(OPEN, BUTTRESS, || opened(buttress(an_hour(), Obeys)));
    meter.shared(OPEN, FLOOR, || Breaker::<_, Streak>::new(Succeeds).open());
    meter.shared(OPEN, FAILSAFE, || opened(failsafe::consecutive(Obeys)));
    meter.shared(OPEN, RECLOSER, || opened(Reclosing::new(Obeys, 5, 0.5)));
    meter.shared(OPEN, SEATBELT, move || opened(seatbelt::time_window(Obeys, window, 5, 0.5)));
    meter.shared(OPEN, TOWER_RESILIENCE, || opened(tower_resilience::consecutive(Obeys)));
}

/// Makes failures until any breaker opens. The check of the row verifies that it is open.
pub fn opened<S: Service<u64, Response = u64>>(mut service: S) -> S {
    assert!((0..10).all(|_| !call_once(&mut service, FAIL)), "every one of them fails");
    service
}

pub fn by_count() -> Config {
    an_hour().failure_rate(0.5).count_window(100).min_calls(100)
}

pub fn by_time(window: Duration) -> Config {
    an_hour().failure_rate(0.5).time_window(window).min_calls(100)
}

/// Five consecutive failures open it for an hour.
pub fn an_hour() -> Config {
    Config::new().open_for(Duration::from_secs(3600))
}

pub fn buttress<S>(config: Config, inner: S) -> CircuitBreaker<S, ServiceErrors, AsError> {
    CircuitBreakerLayer::new(config).expect("valid").layer(inner)
}
