//! The production outbox relay between writers under load and a scripted broker: the lag of
//! messages, the backlog, and that no message is lost or out of order.

mod outages;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::InvalidConfig;
use buttress_durable::outbox::{
    Backlog, Config, MemoryStore, Message, Outbox, Relay, RelayHandle, Stats, Store,
};
use buttress_sim::{
    Distribution, Failure, Load, Outcome, Request, Scenario, Served, Server, ServerError, Station,
    World, check_determinism,
};
use tower::{BoxError, Service, ServiceExt};

use crate::support::{ms, sec};

/// A writer: each request writes its own number in a separate transaction, under the key of the
/// request.
#[derive(Clone)]
struct Writer {
    outbox: Outbox<MemoryStore>,
    /// Whether it reports each commit to the relay of its own process.
    reports: bool,
}

impl Writer {
    fn new(world: &World, reports: bool) -> Self {
        // Some relays here retry without end, and receipts must outlast that.
        let store = MemoryStore::new(world.clock()).keep_receipts(None);
        let outbox = Outbox::new(store).rng(world.rng("messages"));
        let writer = Self { outbox, reports };
        let store = writer.outbox.store().clone();
        world.gauge("backlog", move || backlog(&store).pending as f64);
        writer
    }

    fn service(
        self,
    ) -> impl Service<Request, Response = (), Error = Failure, Future: Send> + Clone + Send + 'static
    {
        tower::service_fn(move |request: Request| {
            let Self { outbox, reports } = self.clone();
            async move {
                let mut tx = outbox.store().begin();
                let message =
                    outbox.message(format!("key-{}", request.key), request.id.to_be_bytes());
                let failed = |_| Failure::from(ServerError::Failed);
                let written = outbox.write(&mut tx, message).await.map_err(failed)?;
                tx.commit();
                if reports {
                    written.committed();
                }
                Ok(())
            }
        })
    }
}

/// Returns the backlog of the store.
fn backlog(store: &MemoryStore) -> Backlog {
    match pin!(store.backlog()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(backlog) => backlog.unwrap(),
        Poll::Pending => panic!("a store in memory answers immediately"),
    }
}

/// Polls every 100 ms, even after it found nothing.
pub(crate) fn config(world: &World) -> Config {
    let config = Config::new().clock(world.clock()).spawner(world.spawner());
    config.rng(world.rng("relay")).idle_poll(ms(100))
}

/// The numbers that the broker accepted, per key in the order of acceptance.
pub(crate) type Taken = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

fn number(message: &Message) -> u64 {
    u64::from_be_bytes(message.payload.as_slice().try_into().unwrap())
}

/// A broker that records the messages it accepts.
pub(crate) fn broker(
    station: Station,
    taken: &Taken,
) -> impl Service<Message, Response = Served, Error = Failure, Future: Send> + Clone + Send + 'static
{
    let taken = taken.clone();
    tower::service_fn(move |message: Message| {
        let (station, taken) = (station.clone(), taken.clone());
        async move {
            let (key, number) = (message.key.clone(), number(&message));
            let served = station.oneshot(message).await?;
            taken.lock().unwrap().entry(key).or_default().push(number);
            Ok(served)
        }
    })
}

pub(crate) fn run<P>(
    scenario: &Scenario,
    reports: bool,
    relay: impl FnOnce(&World) -> Result<(Config, P), InvalidConfig>,
) -> (Outcome, Stats, Backlog)
where
    P: Service<Message> + Clone + Send + 'static,
    P::Error: Into<BoxError>,
    P::Future: Send + 'static,
    P::Response: Send,
{
    let mut seen: Option<(RelayHandle, MemoryStore)> = None;
    let outcome = scenario.run(|world| {
        let writer = Writer::new(world, reports);
        let (config, publisher) = relay(world)?;
        let relay = Relay::new(&writer.outbox, publisher, config)?.spawn();
        seen = Some((relay, writer.outbox.store().clone()));
        Ok(writer.service())
    });
    let (relay, store) = seen.unwrap();
    (outcome.unwrap(), relay.stats(), backlog(&store))
}

/// Asserts that every message was accepted once, in the order of writing.
#[track_caller]
fn assert_all_in_order(taken: &Taken, written: u64) {
    let taken = taken.lock().unwrap();
    assert!(taken.values().all(|numbers| numbers.is_sorted()), "{taken:?}");
    let mut all: Vec<u64> = taken.values().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..written).collect::<Vec<_>>());
}

pub(crate) fn one_ms(world: &World, servers: u32) -> Result<Station, InvalidConfig> {
    world.server(Server::new("broker", ms(1)).servers(servers))
}

#[test]
fn the_lag_is_the_wait_for_the_next_look_and_the_place_in_the_batch() {
    // Written 5, 15, .. 95 ms after each poll, relayed one after the other at 1 ms each.
    let times = (0..1_000).map(|n| ms(10 * n + 5));
    let scenario = Scenario::new("lag", ms(10_050)).load(Load::trace(times));
    let run = |reports| {
        run(&scenario, reports, |world| Ok((config(world).concurrency(1), one_ms(world, 1)?)))
    };
    let (_, stats, left) = run(false);
    // 96, 87, 78 .. 15 ms.
    assert_eq!((stats.lag_average, stats.lag_max), (Duration::from_micros(55_500), ms(96)));
    let mut histogram = [0; 20];
    // Up to 16, 32, 64 and 128 ms.
    histogram[4..=7].copy_from_slice(&[100, 100, 400, 400]);
    assert_eq!(stats.lag_histogram, histogram);
    // At 0, 0.1, .. 10 s.
    assert_eq!((stats.relayed, stats.poll_cycles, stats.failed), (1_000, 101, 0));
    assert_eq!((left.pending, left.dead), (0, 0));
    // A writer that reports its commit starts a poll immediately.
    let (_, stats, _) = run(true);
    assert_eq!((stats.written, stats.relayed), (1_000, 1_000));
    assert_eq!((stats.lag_average, stats.lag_max), (ms(1), ms(1)));
}

#[test]
fn at_random_times_the_mean_lag_is_half_of_the_interval() {
    for interval in [ms(20), ms(100), ms(700)] {
        let scenario =
            Scenario::new("interval", sec(120)).load(Load::poisson(200.0).keys(1_000_000));
        let (_, stats, _) = run(&scenario, false, |world| {
            let config = config(world).poll(interval).idle_poll(interval).concurrency(1_000);
            Ok((config, one_ms(world, u32::MAX)?))
        });
        let mean = (stats.lag_average - ms(1)).as_secs_f64() / interval.as_secs_f64();
        // The error of a uniform distribution.
        let error = (1.0 / 12.0 / stats.relayed as f64).sqrt();
        assert!((mean - 0.5).abs() <= 4.0 * error, "{mean} of {interval:?}");
        assert!(stats.lag_max <= interval + ms(2), "{:?}", stats.lag_max);
    }
}

#[test]
fn a_small_batch_costs_looks_and_no_time() {
    // A burst of 200 between two polls.
    let times = (0..200).map(|n| ms(1_001) + Duration::from_micros(n));
    let scenario = Scenario::new("batch", sec(3)).load(Load::trace(times).keys(1_000_000));
    let run = |batch: usize| {
        let (_, stats, left) = run(&scenario, false, |world| {
            Ok((config(world).batch(batch).concurrency(1), one_ms(world, 1)?))
        });
        assert_eq!((stats.relayed, left.pending), (200, 0));
        // The last one waits for the poll at 1.1 s, and for all messages before it.
        assert_eq!(stats.lag_max, ms(99 + 200) - Duration::from_micros(199));
        stats.poll_cycles
    };
    let cycles = [1, 10, 100, 1_000].map(run);
    assert!(cycles.is_sorted_by(|more, fewer| more > fewer), "{cycles:?}");
    assert_eq!(cycles[3], 30, "every 100 ms");
    assert!(cycles[0] > 200 && cycles[1] > 35, "{cycles:?}");
}

#[test]
fn a_broker_that_is_too_slow_grows_a_backlog_of_the_difference() {
    // 200 per second for ten seconds, of which the broker accepts 100.
    let times = (0..2_000).map(|n| Duration::from_micros(5_000 * n + 100));
    let scenario = Scenario::new("slow", sec(25)).window(sec(1)).load(Load::trace(times).keys(64));
    let taken = Taken::default();
    let (outcome, stats, _) = run(&scenario, false, |world| {
        let station = world.server(Server::new("broker", ms(10)))?;
        Ok((config(world), broker(station, &taken)))
    });
    assert_all_in_order(&taken, 2_000);
    let backlog = &outcome.gauge("backlog").unwrap().values;
    for (second, found) in (1..).zip(backlog) {
        let second = f64::from(second);
        // The first poll is at 0, before any message was written. The backlog is the messages until
        // the next poll.
        let expected =
            if second <= 10.0 { 100.0 * second } else { (2_000.0 - 100.0 * second).max(0.0) };
        assert!((found - expected).abs() <= 25.0, "{found} at {second}");
    }
    // Keys take turns, so none waits behind all others.
    assert!((sec(9)..sec(12)).contains(&stats.lag_max), "{:?}", stats.lag_max);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let scenario = Scenario::new("same", sec(30))
        .load(Load::poisson(100.0).keys(30))
        .faults(outages::outage(sec(10), sec(3)));
    let outcome = check_determinism(&scenario, |world| {
        let writer = Writer::new(world, true);
        let work = Distribution::log_normal(ms(3), ms(40))?;
        let station = world.server(Server::new("broker", work).servers(8).errors(0.05))?;
        let (broker, noted) = (broker(station, &Taken::default()), world.clone());
        let publisher = tower::service_fn(move |message: Message| {
            // Ids come from the seed too.
            noted.note("message", number(&message), message.id.get() as u64);
            broker.clone().oneshot(message)
        });
        let _relay = Relay::new(&writer.outbox, publisher, config(world))?.spawn();
        Ok(writer.service())
    });
    assert!(outcome.unwrap().station("broker").unwrap().arrived > 3_000);
}
