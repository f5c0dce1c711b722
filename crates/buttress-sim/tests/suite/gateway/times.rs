//! Time limits of routes and of authorization.

use std::time::Duration;

use buttress::gateway::Route;
use buttress::rate_limit;
use buttress_sim::{Cause, Distribution, Fault, Faults, Load, Request, Scenario, Server};

use super::{authorization, backend, gateway, run};
use crate::support::{answers, ms, sec, share_agrees_with, us};

#[test]
fn a_route_answers_at_the_instant_of_its_limit_wherever_the_request_is() {
    let limit = us(20_125);
    let run = |auth: Duration, work: Duration, faults: Faults| {
        // The last request comes long before the end.
        let times = (0..500).map(|n| us(1_000 + 3_717 * n));
        let scenario = Scenario::new("limit", sec(2))
            .load(Load::trace(times))
            .faults(faults)
            .keep_events(true);
        run(&scenario, |world| {
            let auth = world.server(Server::new("auth", auth).servers(u32::MAX))?;
            let bucket = rate_limit::Config::new().max_tokens(1000).refill(1, sec(3600));
            let orders = Route::new("orders")
                .authorize(authorization(auth), |request: &Request| request.id)
                .backend(backend(world, "one", work.into())?)
                .rate_limit(bucket)
                .time_limit(limit);
            gateway(world, orders)
        })
    };
    let cut = vec![(Cause::Timeout, limit); 500];
    // In the backend: 15 ms of authorization count too.
    let (outcome, stats) = run(ms(15), ms(10), Faults::new());
    assert_eq!(answers(&outcome), cut);
    assert_eq!((stats.routes[0].timed_out, &stats.routes[0].backends[..]), (500, &[500][..]));
    assert_eq!(outcome.station("one").unwrap().orphaned, 500);
    // In authorization, which never answers: no backend gets the request.
    let silent = Faults::new().at(ms(0), sec(30), "auth", Fault::BlackHole);
    let (outcome, stats) = run(ms(15), ms(1), silent);
    assert_eq!(answers(&outcome), cut);
    assert_eq!((stats.routes[0].timed_out, &stats.routes[0].backends[..]), (500, &[0][..]));
    // An answer at the exact instant counts.
    let (outcome, _) = run(ms(15), us(5_125), Faults::new());
    assert_eq!(answers(&outcome), vec![(Cause::Ok, limit); 500]);
}

#[test]
fn authorization_takes_the_time_and_fails_at_the_rate_of_its_service() {
    let scenario = Scenario::new("auth", sec(200))
        .load(Load::poisson(100.0))
        .faults(Faults::new().at(sec(100), sec(50), "auth", Fault::Crash));
    let (outcome, stats) = run(&scenario, |world| {
        let auth =
            Server::new("auth", Distribution::exponential(ms(4))).servers(u32::MAX).errors(0.05);
        let orders = Route::new("orders")
            .authorize(authorization(world.server(auth)?), |request: &Request| request.id)
            .backend(backend(world, "one", ms(2).into())?);
        gateway(world, orders)
    });
    let orders = &stats.routes[0];
    let decided = orders.begun - orders.auth_unavailable;
    share_agrees_with(orders.unauthorized, decided, 0.05, "denied");
    share_agrees_with(orders.auth_unavailable, orders.begun, 0.25, "while it was down");
    // 4 ms of authorization and 2 ms of work.
    let mean = outcome.latency().mean().as_secs_f64();
    let error = 0.004 / (orders.answered as f64).sqrt();
    assert!((mean - 0.006).abs() < 4.0 * error, "{mean}");
    assert!(orders.backends[0] - orders.answered <= outcome.unfinished(), "{orders:?}");
}
