//! The two engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::time_limit::{Config, TimeLimitLayer};
use buttress::{Spawner, VirtualClock};
use buttress_sim::tokio_engine::Runtime;
use buttress_sim::{
    Cause, Distribution, Engine, Failure, Load, Request, Scenario, Served, Server, SimError, Stuck,
    World,
};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};

use crate::support::{ms, sec, us};

fn scenario(engine: Engine) -> Scenario {
    let patience = Distribution::exponential(ms(300));
    Scenario::new("both", sec(30)).load(Load::poisson(100.0).impatient(patience)).engine(engine)
}

type Stack = BoxCloneService<Request, Served, Failure>;

fn stack(world: &World) -> Result<Stack, buttress::InvalidConfig> {
    let server = world.server(Server::new("server", Distribution::exponential(ms(9))))?;
    let config = Config::new(ms(40)).clock(world.clock()).observer(world.observer());
    Ok(BoxCloneService::new(TimeLimitLayer::new(config)?.layer(server)))
}

#[test]
fn both_engines_measure_the_same() {
    let [own, tokio] = [Engine::Own, Engine::Tokio].map(|e| scenario(e).run(stack).unwrap());
    assert!(own.ends().of(Cause::Timeout) > 100 && own.ends().of(Cause::Abandoned) > 50);
    assert_eq!(own.ends(), tokio.ends());
    assert_eq!(own.latency(), tokio.latency());
    assert_eq!(own.stations(), tokio.stations());
}

#[test]
fn the_tokio_engine_repeats_itself() {
    let run = || scenario(Engine::Tokio).run(stack).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn user_code_that_spawns_on_tokio_runs_unchanged_and_to_the_nanosecond() {
    let outcome = Scenario::new("spawns", ms(50))
        .load(Load::trace([us(100)]))
        .engine(Engine::Tokio)
        .run(|world| {
            let clock = world.clock();
            Ok(tower::service_fn(move |_: Request| {
                let clock = clock.clone();
                async move {
                    let (send, receive) = tokio::sync::oneshot::channel();
                    tokio::spawn(async move {
                        clock.sleep(Duration::from_nanos(1_234_567)).await;
                        let _ = send.send(());
                    });
                    tokio::task::yield_now().await;
                    receive.await.map_err(|_| Failure::from(buttress_sim::ServerError::Failed))
                }
            }))
        })
        .unwrap();
    assert_eq!(outcome.latency().max(), Duration::from_nanos(1_234_567));
    assert_eq!(outcome.ends().of(Cause::Ok), 1);
}

#[test]
fn the_tokio_engine_fires_timers_in_the_order_of_their_deadlines() {
    let time = VirtualClock::new();
    let runtime = Runtime::new(&time).unwrap();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (clock, log) = (time.clock(), order.clone());
    runtime
        .block_on(async move {
            let tasks = [900, 100, 500].map(|micros| {
                let (sleep, log) = (clock.sleep(us(micros)), log.clone());
                tokio::spawn(async move {
                    sleep.await;
                    log.lock().unwrap().push(micros);
                })
            });
            for task in tasks {
                task.await.unwrap();
            }
        })
        .unwrap();
    assert_eq!(*order.lock().unwrap(), [100, 500, 900]);
    assert_eq!(time.elapsed(), us(900));
}

#[test]
fn the_tokio_engine_notices_a_deadlock_and_can_go_on_after_it() {
    let time = VirtualClock::new();
    let runtime = Runtime::new(&time).unwrap();
    let stuck = runtime.block_on(std::future::pending::<()>());
    assert!(matches!(stuck, Err(Stuck::Deadlock { .. })), "{stuck:?}");
    assert_eq!(runtime.block_on(time.clock().sleep(ms(3))), Ok(()));
}

#[test]
fn a_stack_that_waits_for_itself_is_a_deadlock_with_names_only_once_no_timer_is_left() {
    // The load of a run is always a timer: the run ends, and interrupts the request.
    let outcome = Scenario::new("waits", ms(10))
        .load(Load::trace([us(10)]))
        .run(|_| Ok(tower::service_fn(|_: Request| std::future::pending::<Result<(), Failure>>())))
        .unwrap();
    assert_eq!((outcome.ends().all(), outcome.unfinished()), (0, 1));
    let spins = Scenario::new("spins", ms(10)).load(Load::trace([us(10)])).run(|_| {
        Ok(tower::service_fn(|_: Request| {
            std::future::poll_fn(|cx: &mut std::task::Context<'_>| {
                cx.waker().wake_by_ref();
                std::task::Poll::<Result<(), Failure>>::Pending
            })
        }))
    });
    let Err(SimError::Stuck(Stuck::Livelock { at, spinning })) = spins else { panic!("{spins:?}") };
    assert_eq!((at, spinning.len()), (us(10), 1));
}

#[test]
fn tasks_of_the_stack_go_through_the_spawner_of_the_world() {
    for engine in [Engine::Own, Engine::Tokio] {
        let done = Arc::new(AtomicU64::new(0));
        let counted = done.clone();
        Scenario::new("background", ms(100))
            .engine(engine)
            .load(Load::even(100.0))
            .run(|world| {
                let (spawner, clock): (Spawner, _) = (world.spawner(), world.clock());
                let server = world.server(Server::new("server", us(5)))?;
                Ok(tower::service_fn(move |request: Request| {
                    let (counted, clock) = (counted.clone(), clock.clone());
                    spawner.spawn(async move {
                        clock.sleep(us(50)).await;
                        counted.fetch_add(1, Ordering::SeqCst);
                    });
                    server.clone().oneshot(request)
                }))
            })
            .unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 9, "{engine:?}");
    }
}
