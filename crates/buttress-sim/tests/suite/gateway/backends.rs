//! The turns of backends, and requests without a ready backend.

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::gateway::Route;
use buttress_sim::{Cause, Fault, Faults, Load, Scenario};
use tower::Layer;
use tower::util::BoxCloneService;

use super::{backend, gateway, run};
use crate::support::{answers, arrivals, ms, sec};

#[test]
fn a_backend_that_is_down_is_passed_by_and_the_others_share_its_turns() {
    let scenario = Scenario::new("turns", sec(30))
        .load(Load::even(30.0))
        .faults(Faults::new().at(ms(10_005), sec(10), "two", Fault::Crash))
        .keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let mut orders = Route::new("orders");
        for name in ["one", "two", "three"] {
            let config = circuit_breaker::Config::new()
                .name(name)
                .consecutive_failures(5)
                .open_for(sec(2))
                .clock(world.clock())
                .observer(world.observer());
            let breaker = CircuitBreakerLayer::new(config)?.backpressure();
            orders = orders.backend(BoxCloneService::new(breaker.layer(backend(
                world,
                name,
                ms(1).into(),
            )?)));
        }
        gateway(world, orders)
    });
    let orders = &stats.routes[0];
    // Five failures open its circuit, and so does each probe: after 10.5 s, 12.5 s, 14.5 s, 16.5 s
    // and 18.5 s.
    assert_eq!((orders.failed, orders.unauthorized), (9, 0));
    assert_eq!(orders.answered, 891 - 1, "{orders:?}");
    let while_open = |name: &str| {
        let from = ms(10_700);
        arrivals(&outcome, name).iter().filter(|at| (from..from + sec(9)).contains(*at)).count()
    };
    let [one, two, three] = ["one", "two", "three"].map(while_open);
    // 30 per second, except the four probes, which find it down.
    assert_eq!((one + two + three, two), (266, 0));
    assert!(one.abs_diff(three) <= 1, "{one} and {three}");
    // Before and after, each backend had a third.
    let [one, two, three] = [0, 1, 2].map(|n| orders.backends[n]);
    assert_eq!((one + two + three, one.abs_diff(three)), (899, 0));
}

#[test]
fn when_no_backend_is_ready_callers_wait_for_the_first_and_no_longer_than_the_limit() {
    // The circuit opens at 1 s and admits a probe at 4 s.
    let scenario = Scenario::new("none", sec(6))
        .load(Load::trace([1_000, 1_500, 2_500].map(ms)))
        .faults(Faults::new().at(ms(500), sec(1), "one", Fault::Crash))
        .keep_events(true);
    let (outcome, _) = run(&scenario, |world| {
        let config = circuit_breaker::Config::new()
            .consecutive_failures(1)
            .open_for(sec(3))
            .clock(world.clock());
        let breaker = CircuitBreakerLayer::new(config)?.backpressure();
        let one = BoxCloneService::new(breaker.layer(backend(world, "one", ms(10).into())?));
        gateway(world, Route::new("orders").backend(one).time_limit(sec(2)))
    });
    let expected = [(Cause::Error, ms(0)), (Cause::Timeout, sec(2)), (Cause::Ok, ms(1_510))];
    assert_eq!(answers(&outcome), expected);
}
