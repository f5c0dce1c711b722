//! A stack that lacks a part of the world does not give a false answer.

use buttress::balance::{self, Balance, Endpoints};
use buttress::circuit_breaker::KeyedCircuitBreakerLayer;
use buttress::retry::RetryLayer;
use buttress::sidecar::{self, SidecarLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{
    Clock, InvalidConfig, Spawner, bulkhead, circuit_breaker, health, idempotency, rate_limit,
    retry, split,
};
use buttress_durable::{outbox, saga};
use buttress_sim::inject::StoreFaults;
use buttress_sim::{
    Diverged, Engine, Load, Request, Scenario, Server, SimError, Station, World, check_determinism,
};
use tower::{Layer, service_fn};

use crate::support::{ms, sec};

type Build = fn(&World) -> Result<(), InvalidConfig>;

fn db(world: &World) -> Result<Station, InvalidConfig> {
    world.server(Server::new("db", ms(10)))
}

/// Returns the parts that can be made without a clock, each with its name in the error.
fn parts() -> Vec<(&'static str, Build)> {
    vec![
        ("rate_limit", |_| rate_limit::Config::new().build().map(drop)),
        ("hosts", |_| {
            let config = circuit_breaker::Config::new().name("hosts");
            KeyedCircuitBreakerLayer::new(config, 10, |request: &Request| request.key).map(drop)
        }),
        ("balance", |_| {
            let endpoints = Endpoints::<Station>::new();
            Balance::new(endpoints, balance::Config::new()).map(drop)
        }),
        ("split", |_| split::Handle::new(&split::Config::new()).map(drop)),
        ("bulkhead", |_| bulkhead::Config::new().build().map(drop)),
        ("circuit_breaker", |_| circuit_breaker::Config::new().build().map(drop)),
        ("retry", |_| retry::Config::new().build().map(drop)),
        ("time_limit", |_| time_limit::Config::new(sec(1)).build().map(drop)),
        ("orders", |_| SidecarLayer::new(sidecar::Config::new().name("orders")).map(drop)),
        ("health", |_| health::Health::with("health", "1.0", health::Config::default()).map(drop)),
        ("idempotency::MemoryStore", |_| {
            drop(idempotency::MemoryStore::<u64>::default());
            Ok(())
        }),
        ("outbox::MemoryStore", |_| {
            drop(outbox::MemoryStore::new(Clock::default()));
            Ok(())
        }),
        ("relay", |world| {
            let outbox = outbox::Outbox::new(outbox::MemoryStore::new(world.clock()));
            let publisher = service_fn(async |_: outbox::Message| Ok::<(), tower::BoxError>(()));
            outbox::Relay::new(&outbox, publisher, outbox::Config::new().name("relay")).map(drop)
        }),
        ("executor", |world| {
            let mut order = saga::Definition::<u32>::builder("order", 1);
            order.step("rest").wait(|_, ()| sec(1));
            let (order, store) = (order.build().unwrap(), saga::MemoryStore::new(world.clock()));
            saga::Executor::new(order, store, saga::Config::new().name("executor")).map(drop)
        }),
        ("StoreFaults", |_| {
            drop(StoreFaults::new());
            Ok(())
        }),
    ]
}

#[test]
fn a_part_without_the_clock_of_the_world_is_refused_by_name() {
    for engine in [Engine::Own, Engine::Tokio] {
        for (name, part) in parts() {
            let scenario = Scenario::new("forgotten", sec(1)).engine(engine);
            let run = scenario.run(|world| {
                part(world)?;
                db(world)
            });
            let Err(SimError::Invalid(error)) = run else { panic!("{name}: {run:?}") };
            assert_eq!((error.layer(), error.field()), (Some(name), "clock"), "{error}");
            let bound = "the clock of the world, `.clock(world.clock())`";
            assert_eq!((error.value(), error.bound()), ("tokio's clock", bound));
        }
    }
}

#[test]
fn check_determinism_refuses_a_limiter_without_the_clock() {
    let scenario = Scenario::new("forgotten", sec(10)).load(Load::poisson(50.0));
    let checked = check_determinism(&scenario, |world| {
        let limiter = rate_limit::Config::new().max_tokens(20).refill(20, sec(1)).build()?;
        Ok(limiter.layer(db(world)?))
    });
    let Err(Diverged::Failed(SimError::Invalid(error))) = checked else { panic!("{checked:?}") };
    assert_eq!(error.layer(), Some("rate_limit"));
}

#[test]
fn a_layer_that_is_made_while_the_scenario_runs_is_refused() {
    let run = Scenario::new("late", sec(1)).run(|world| {
        let db = db(world)?;
        Ok(service_fn(move |request| {
            let limiter = rate_limit::Config::new().name("late").build().unwrap();
            tower::ServiceExt::oneshot(limiter.layer(db.clone()), request)
        }))
    });
    let Err(SimError::Invalid(error)) = run else { panic!("{run:?}") };
    assert_eq!(error.layer(), Some("late"));
}

#[test]
fn after_a_run_layers_have_any_clock() {
    let run = || Scenario::new("calm", sec(1)).run(db).unwrap();
    let panics = std::panic::catch_unwind(|| {
        let _ = Scenario::new("panics", sec(1)).run::<Station>(|_| panic!("in build"));
    });
    assert!(panics.is_err());
    let _limiter = rate_limit::Config::new().build().unwrap();
    assert_eq!(run(), run());
}

#[test]
fn check_determinism_finds_a_retry_without_the_random_numbers_of_the_world() {
    let scenario = Scenario::new("rng", sec(5)).load(Load::poisson(50.0));
    let checked = check_determinism(&scenario, |world| {
        let db = world.server(Server::new("db", ms(2)).errors(0.3))?;
        Ok(RetryLayer::new(retry::Config::new().clock(world.clock()))?.layer(db))
    });
    assert!(matches!(checked, Err(Diverged::At { .. })), "{checked:?}");
}

#[test]
#[should_panic(expected = "give its Config the clock of the run, .clock(world.clock())")]
fn a_layer_that_was_made_before_the_run_and_waits_is_named() {
    let limit = TimeLimitLayer::new(time_limit::Config::new(ms(5))).unwrap();
    let _ = Scenario::new("forgotten", sec(1)).run(|world| Ok(limit.layer(db(world)?)));
}

#[test]
#[should_panic(expected = "its spawner, .spawner(world.spawner())")]
fn a_task_of_tokio_is_named() {
    let _ = Scenario::new("forgotten", sec(1)).run(|world| {
        let db = db(world)?;
        Ok(service_fn(move |request| {
            Spawner::default().spawn(async {});
            tower::ServiceExt::oneshot(db.clone(), request)
        }))
    });
}

#[test]
fn retries_and_refusals_are_counted_without_an_observer() {
    let run = |observed: bool| {
        let scenario = Scenario::new("observer", sec(10)).load(Load::poisson(50.0));
        scenario.run(|world| {
            let db = world.server(Server::new("db", ms(2)).errors(0.3))?;
            let mut config = retry::Config::new().clock(world.clock()).rng(world.rng("jitter"));
            if observed {
                config = config.observer(world.observer());
            }
            Ok(RetryLayer::new(config)?.layer(db))
        })
    };
    let (without, with) = (run(false).unwrap(), run(true).unwrap());
    assert!(without.attempts() <= without.requests() + without.retries());
    assert!(without.retries() > 100);
    assert_eq!(without, with);
}
