//! The production gateway in front of scripted services: its choice of backends, the times of its
//! answers, and the sums of its numbers.

mod backends;
mod times;

use buttress::gateway::{Decision, Gateway, Handle, Route, RouteStats, Stats};
use buttress::{InvalidConfig, rate_limit};
use buttress_sim::{
    Cause, Distribution, Failure, Fault, Faults, Load, Outcome, Request, Scenario, Served, Server,
    ServerError, Station, World, check_determinism,
};
use tower::util::BoxCloneService;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::{answers, arrivals, ms, sec};

type Backend = BoxCloneService<Request, Served, Failure>;
type Ways = Gateway<Request, Backend, fn(&Request) -> Option<&str>>;

/// An authorization service with the time of a station. It denies if the work of the station fails,
/// and fails while the station is down.
fn authorization(
    station: Station,
) -> impl Service<u64, Response = Decision, Error = Failure, Future: Send> + Clone + Send + 'static
{
    let decide = |answer: Result<Served, Failure>| match answer {
        Ok(_) => Ok(Decision::Allow),
        Err(Failure::Server(ServerError::Failed)) => Ok(Decision::Deny),
        Err(error) => Err(error),
    };
    ServiceBuilder::new().map_result(decide).service(station)
}

fn backend(world: &World, name: &str, work: Distribution) -> Result<Backend, InvalidConfig> {
    Ok(BoxCloneService::new(world.server(Server::new(name, work).servers(u32::MAX))?))
}

fn route(_: &Request) -> Option<&str> {
    Some("orders")
}

/// Makes the gateway of one route, and its handle.
fn gateway(world: &World, route_to: Route<Request, Backend>) -> Result<Ways, InvalidConfig> {
    Gateway::new("edge", world.clock(), route as fn(&Request) -> Option<&str>, [route_to])
}

fn run(
    scenario: &Scenario,
    build: impl FnOnce(&World) -> Result<Ways, InvalidConfig>,
) -> (Outcome, Stats) {
    let mut handle: Option<Handle> = None;
    let outcome = scenario.run(|world| {
        let gateway = build(world)?;
        handle = Some(gateway.handle());
        Ok(gateway)
    });
    (outcome.unwrap(), handle.unwrap().stats())
}

fn refused(route: &RouteStats) -> u64 {
    route.unauthorized + route.auth_unavailable + route.rate_limited + route.no_backend
}

#[test]
fn the_order_is_route_auth_limit_backend_and_a_refusal_takes_no_token_and_no_turn() {
    fn every_fifth_goes_nowhere(request: &Request) -> Option<&str> {
        (request.id % 5 != 4).then_some("orders")
    }
    let scenario = Scenario::new("order", sec(1))
        .load(Load::trace((1..=20).map(|n| ms(10 * n))))
        .keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let auth = world.server(Server::new("auth", ms(1)))?;
        let auth = tower::service_fn(move |id: u64| {
            let auth = auth.clone();
            async move {
                auth.oneshot(id).await?;
                Ok::<_, Failure>(if id % 3 == 2 { Decision::Deny } else { Decision::Allow })
            }
        });
        let bucket = rate_limit::Config::new().max_tokens(6).refill(1, sec(3600));
        let mut orders = Route::new("orders").authorize(auth, |request: &Request| request.id);
        for name in ["one", "two", "three"] {
            orders = orders.backend(backend(world, name, ms(5).into())?);
        }
        let extract = every_fifth_goes_nowhere as fn(&Request) -> Option<&str>;
        Gateway::new("edge", world.clock(), extract, [orders.rate_limit(bucket)])
    });
    // The first six permitted requests get the tokens, regardless of the refused ones.
    let expected = |id: u64| match id {
        _ if id % 5 == 4 => (Cause::Error, ms(0)),
        _ if id % 3 == 2 => (Cause::Error, ms(1)),
        0..=10 => (Cause::Ok, ms(6)),
        _ => (Cause::Limited, ms(1)),
    };
    assert_eq!(answers(&outcome), (0..20).map(expected).collect::<Vec<_>>());
    let orders = &stats.routes[0];
    assert_eq!((stats.begun, stats.no_route, orders.begun), (20, 4, 16));
    assert_eq!((orders.unauthorized, orders.rate_limited, orders.answered), (5, 5, 6));
    // Requests 0, 1, 3, 6, 7 and 10 used the backends in turn, twice around.
    assert_eq!(orders.backends, [2, 2, 2]);
    let came = |ids: [u64; 2]| ids.map(|id| ms(10 * (id + 1) + 1));
    assert_eq!(arrivals(&outcome, "one"), came([0, 6]));
    assert_eq!(arrivals(&outcome, "two"), came([1, 7]));
    assert_eq!(arrivals(&outcome, "three"), came([3, 10]));
    assert_eq!(
        outcome.station("auth").unwrap().arrived,
        16,
        "an unknown route needs no authorization"
    );
}

/// All ends that a request can have, at random.
fn everything() -> Scenario {
    let faults = Faults::new()
        .at(sec(20), sec(5), "auth", Fault::Crash)
        .at(sec(30), sec(2), "one", Fault::Errors(0.5))
        .at(sec(40), sec(1), "two", Fault::Pause);
    let patience = Distribution::exponential(ms(200));
    Scenario::new("everything", sec(60))
        .load(Load::poisson(300.0).keys(20).impatient(patience))
        .faults(faults)
}

fn everything_in(world: &World) -> Result<Ways, InvalidConfig> {
    fn by_key(request: &Request) -> Option<&str> {
        match request.key {
            0 => None,
            1..=9 => Some("orders"),
            _ => Some("prices"),
        }
    }
    let auth = world.server(
        Server::new("auth", Distribution::exponential(ms(3))).servers(u32::MAX).errors(0.1),
    )?;
    let orders = Route::new("orders")
        .authorize(authorization(auth), |request: &Request| request.id)
        .rate_limit(rate_limit::Config::new().max_tokens(20).refill(100, sec(1)))
        .backend(backend(world, "one", Distribution::exponential(ms(8)))?)
        .backend(backend(world, "two", Distribution::exponential(ms(8)))?)
        .time_limit(ms(40));
    let prices = Route::new("prices").backend(backend(
        world,
        "three",
        Distribution::log_normal(ms(2), ms(30))?,
    )?);
    let gateway = Gateway::new(
        "edge",
        world.clock(),
        by_key as fn(&Request) -> Option<&str>,
        [orders, prices],
    )?;
    let handle = gateway.handle();
    world.invariant("no more have ended than begun, and none ends twice", move |_| {
        let stats = handle.stats();
        for route in &stats.routes {
            let ended =
                route.answered + route.failed + route.timed_out + route.abandoned + refused(route);
            let sent: u64 = route.backends.iter().sum();
            let past_the_limiter = route.begun - refused(route);
            if ended > route.begun
                || sent < route.answered + route.failed
                || sent > past_the_limiter
            {
                return Err(format!("{route:?}"));
            }
        }
        Ok(())
    });
    let handle = gateway.handle();
    world.gauge("tokens", move || {
        handle.rate_limit("orders").map_or(0.0, |limit| limit.available().into())
    });
    Ok(gateway)
}

#[test]
fn every_request_is_in_exactly_one_number() {
    let (outcome, stats) = run(&everything(), everything_in);
    assert_eq!(outcome.violations(), []);
    assert_eq!(stats.begun, outcome.requests());
    let sum = |of: fn(&RouteStats) -> u64| stats.routes.iter().map(of).sum::<u64>();
    assert_eq!(sum(RouteStats::in_flight), 0);
    let ends = outcome.ends();
    assert_eq!(ends.of(Cause::Ok), sum(|route| route.answered));
    assert_eq!(ends.of(Cause::Timeout), sum(|route| route.timed_out));
    assert_eq!(ends.of(Cause::Limited), sum(|route| route.rate_limited));
    let cut = outcome.unfinished();
    assert_eq!(ends.of(Cause::Abandoned) + cut, sum(|route| route.abandoned));
    let other = sum(|route| route.failed + route.unauthorized + route.auth_unavailable);
    assert_eq!(ends.of(Cause::Error), other + stats.no_route);
    // The calls to the backends equal the arrivals at the backends.
    for (backends, names) in stats.routes.iter().zip([&["one", "two"][..], &["three"]]) {
        let came: Vec<u64> =
            names.iter().map(|name| outcome.station(name).unwrap().arrived).collect();
        assert_eq!(backends.backends, came);
    }
    // Each end occurred.
    let orders = &stats.routes[0];
    let all = [
        stats.no_route,
        orders.answered,
        orders.failed,
        orders.unauthorized,
        orders.auth_unavailable,
        orders.rate_limited,
        orders.timed_out,
        orders.abandoned,
    ];
    assert!(all.iter().all(|count| *count > 20), "{all:?}");
    let tokens = &outcome.gauge("tokens").unwrap().values;
    assert!(tokens.iter().all(|tokens| (0.0..=20.0).contains(tokens)) && tokens.contains(&0.0));
}

#[test]
fn the_same_seed_is_the_same_run() {
    check_determinism(&everything(), everything_in).unwrap();
}
