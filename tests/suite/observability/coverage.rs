//! Runs every pattern under a recorder, and compares described and registered metrics with the
//! definitions.

use std::collections::BTreeSet;
use std::time::Duration;

use buttress::gateway::{Decision, Gateway, Route};
use buttress::health::{Health, Importance};
use buttress::idempotency::{self, IdempotencyLayer};
use buttress::telemetry::{DurationLayer, Sampler};
use buttress::{
    Clock, Error, ErrorKind, InMemory, Name, bulkhead, circuit_breaker, fallback, rate_limit,
    retry, sidecar, time_limit,
};
use buttress_durable::event_store::Store as _;
use buttress_durable::{bus, consume, event_store, outbox, saga};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::page::instruments;
use super::recorder::Keeper;
use crate::support::ms;

/// Samples every pattern that counts calls.
fn patterns(sampler: &Sampler) {
    let budget = retry::Budget::new(0.2, 10).unwrap();
    sampler.watch(retry::Config::new().budget(budget).count_calls(true).build().unwrap().handle());
    let queued = bulkhead::Config::new().queue(1).count_calls(true);
    sampler.watch(queued.build().unwrap().handle());
    sampler.watch(circuit_breaker::Config::new().count_calls(true).build().unwrap().handle());
    sampler.watch(rate_limit::Config::new().count_calls(true).build().unwrap().handle());
    let limit = time_limit::Config::new(Duration::from_secs(1)).count_calls(true);
    sampler.watch(limit.build().unwrap().handle());
    let config = fallback::Config::new().count_calls(true);
    sampler.watch(fallback::FallbackLayer::value(()).config(config).handle());
    let keyed = bulkhead::KeyedBulkheadLayer::new(bulkhead::Config::new(), 9, |key: &u8| *key);
    sampler.watch(keyed.unwrap().handle());
    let config = circuit_breaker::Config::new();
    let keyed = circuit_breaker::KeyedCircuitBreakerLayer::new(config, 9, |key: &u8| *key);
    sampler.watch(keyed.unwrap().handle());
    let (config, key) = (rate_limit::Config::new().count_calls(true), |key: &u8| *key);
    let plans = [("free", rate_limit::Config::new())];
    let keyed = rate_limit::KeyedRateLimitLayer::with_plans(config, 9, key, plans, |_| "free");
    sampler.watch(keyed.unwrap().handle());
    let fine = async || Ok::<(), BoxError>(());
    let health = Health::new("shop", "1").check("db", Importance::Critical, fine).unwrap();
    sampler.watch(health);
    sampler.watch(sidecar::Config::new().name("client").build().unwrap().handle());
}

fn idempotent(sampler: &Sampler) {
    let (config, store) =
        (idempotency::Config::new().count_calls(true), idempotency::MemoryStore::<u32>::default());
    let key = |request: &u32| idempotency::Key::new(&request.to_string());
    sampler.watch(IdempotencyLayer::new(config, store, key).unwrap().handle());
}

type Backend = tower::util::BoxCloneService<(&'static str, Decision), u32, BoxError>;

type Asked = (&'static str, Decision);
type Extract = fn(&Asked) -> Option<&str>;

fn route_of(asked: &Asked) -> Option<&str> {
    Some(asked.0)
}

/// A gateway with one route. Its authorization service answers as the request says.
fn gateway(observer: impl buttress::Observer + 'static) -> Gateway<Asked, Backend, Extract> {
    let backend = Backend::new(service_fn(async |_| Ok(1)));
    let authorize = service_fn(async |decision: Decision| Ok::<_, BoxError>(decision));
    let route = Route::new("orders")
        .backend(backend)
        .authorize(authorize, |(_, decision): &Asked| *decision)
        .time_limit(ms(100))
        .rate_limit(rate_limit::Config::new().max_tokens(1));
    let extract = route_of as Extract;
    Gateway::new("edge", Clock::default(), extract, [route]).unwrap().observer(observer)
}

async fn durable(sampler: &Sampler) {
    let mut order = saga::Definition::<u32>::builder("order", 1);
    let reserve = service_fn(async |_: saga::Call<u32>| Ok::<u32, BoxError>(1));
    order.step("reserve").action((), reserve, |order: &u32, ()| *order).add();
    let charge = service_fn(async |_: saga::Call<u32>| Err::<u32, BoxError>("declined".into()));
    order.step("charge").action((), charge, |order: &u32, ()| *order).add();
    let logs = saga::MemoryStore::new(Clock::default());
    let definition = order.build().unwrap();
    let orders =
        saga::Executor::<u32, InMemory, _>::new(definition, logs.clone(), saga::Config::new());
    let orders = orders.unwrap();
    // A failure that is not definite leaves the step in doubt, and the saga stuck or unwound.
    let report = orders.run_to_end(1).await.unwrap();
    assert_ne!(report.status(), saga::Status::Completed);
    sampler.watch(orders);
    sampler.watch(saga::Monitor::new("saga", logs, Clock::default()).definition("order"));

    let store = outbox::MemoryStore::new(Clock::default());
    let outbox = outbox::Outbox::new(store.clone());
    let publisher = service_fn(async |_: outbox::Message| Ok::<(), BoxError>(()));
    let relay = outbox::Relay::new(&outbox, publisher, outbox::Config::new()).unwrap().spawn();
    let mut tx = store.begin();
    outbox.write(&mut tx, outbox.message("order-7", "paid")).await.unwrap().committed();
    tx.commit();
    Clock::default().sleep(Duration::from_secs(1)).await;
    assert_eq!(relay.stats().relayed, 1);
    sampler.watch(relay);
    sampler.watch(outbox::Monitor::new("outbox", store.clone()));
    let inbox = outbox::CountedInbox::new("payments", store.clone());
    let mut tx = store.begin();
    let message = outbox::MessageId::new(1);
    for expected in [outbox::Receipt::First, outbox::Receipt::Repeated] {
        let receipt = outbox::Inbox::receive(&inbox, &mut tx, "payments", message).await;
        assert_eq!(receipt.unwrap(), expected);
    }
    let barrier = saga::CountedBarrier::new("payments", store.clone());
    for expected in [saga::Passage::Overtaken, saga::Passage::Overtaken] {
        let passage = saga::Barrier::undo(&barrier, &mut tx, saga::SagaId::new(1), "charge").await;
        assert_eq!(passage.unwrap(), expected);
    }
    tx.commit();
    sampler.watch(inbox);
    sampler.watch(barrier);
    let events = bus::Bus::new();
    let source = events.subscribe("g", bus::Subscribe::new(bus::Pattern::all())).unwrap();
    sampler.watch(events);
    let letters = consume::MemoryDeadLetters::new(Clock::default());
    sampler.watch(consume::LetterMonitor::new("g", letters));
    let handler = service_fn(async |_: consume::Delivery| Ok::<(), BoxError>(()));
    let consumer = consume::Consumer::new(source, handler, consume::Config::new()).unwrap();
    sampler.watch(consumer.handle());
    let events = event_store::MemoryStore::new(Clock::default());
    let log = event_store::Log::new(events.clone());
    let handler = service_fn(async |batch: event_store::Batch<()>| Ok::<_, BoxError>(batch));
    let config = event_store::Config::new();
    let projection = event_store::Projection::new("list", &log, handler, config).unwrap();
    sampler.watch(projection.handle());
    let worker = event_store::ProjectorId::new(1);
    let claim = event_store::ProjectionClaim::new("list", worker, Duration::from_secs(1));
    events.lease_projection(claim).await.unwrap();
    sampler.watch(event_store::ProjectionMonitor::new("events", events));
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_described_and_registered_as_it_is_defined() {
    let keeper = Keeper::default();
    let _recording = metrics::set_default_local_recorder(&keeper);
    let sampler = Sampler::new();
    patterns(&sampler);
    idempotent(&sampler);
    sampler.watch(gateway(|_: Name, _: &buttress::Event| {}).handle());
    let instances = buttress::discover::fixed([buttress::discover::Instance::at("10.0.0.1:1")]);
    let client = |_: &buttress::discover::Instance| service_fn(async |_: ()| Ok::<(), Error>(()));
    let config = buttress::balance::Config::new().count_calls(true);
    let balance = buttress::balance::Balance::resolving(instances, client, config).unwrap();
    balance.clone().oneshot(()).await.unwrap();
    sampler.watch(balance.handle());
    let part = service_fn(async |_: ()| Ok::<(), Error>(()));
    let page = buttress::aggregate::Aggregate::builder().required("part", part);
    let page = page.config(buttress::aggregate::Config::new().count_calls(true)).build().unwrap();
    sampler.watch(page.handle());
    let side = service_fn(async |_: ()| Ok::<(), Error>(()));
    let config = buttress::split::Config::new().count_calls(true);
    sampler.watch(buttress::split::Split::new(side, side, config).unwrap().handle());
    let config = buttress::shadow::Config::new();
    let copy = |_: &()| Some(());
    sampler.watch(buttress::shadow::Shadow::new(side, side, copy, config).unwrap().handle());
    durable(&sampler).await;
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(7);
    let pool = options.connect_lazy("sqlite::memory:").unwrap();
    sampler.watch(buttress_sqlx::PoolMonitor::new("db", &pool));
    let service = service_fn(async |_: ()| Ok::<(), Error>(()));
    DurationLayer::new("db").layer(service).oneshot(()).await.unwrap();
    assert_eq!(sampler.refresh().await, Vec::<String>::new());
    sampler.record();

    let defined: BTreeSet<_> = instruments()
        .into_iter()
        .map(|metric| (metric.name.to_owned(), metric.kind.as_str(), metric.unit.as_str()))
        .collect();
    keeper.kept(|kept| {
        let missing: Vec<_> = defined.difference(&kept.described).collect();
        assert!(missing.is_empty(), "not described: {missing:?}");
        let surplus: Vec<_> = kept.described.difference(&defined).collect();
        assert!(surplus.is_empty(), "described and not defined: {surplus:?}");
        let mut registered = BTreeSet::new();
        for ((name, labels), (kind, _)) in &kept.series {
            let defined = instruments().into_iter().find(|metric| metric.name == name);
            let defined = defined.unwrap_or_else(|| panic!("{name} is not defined"));
            assert_eq!(*kind, defined.kind.as_str(), "{name}");
            let expected: BTreeSet<_> = defined.labels.iter().copied().collect();
            let own: BTreeSet<_> = labels.keys().map(String::as_str).collect();
            assert_eq!(own, expected, "{name}");
            assert!(labels.values().all(|value| !value.is_empty()), "{name}: {labels:?}");
            registered.insert(name.clone());
        }
        let missing: Vec<_> =
            defined.iter().filter(|(name, ..)| !registered.contains(name)).collect();
        assert!(missing.is_empty(), "not registered: {missing:?}");
    });
    let value = |name: &str, labels: &[(&str, &str)]| keeper.value(name, labels);
    assert_eq!(value("buttress.outbox.lag", &[("layer", "outbox")]), Some(1.0));
    assert_eq!(value("buttress.outbox.backlog", &[("layer", "outbox")]), Some(0.0));
    assert_eq!(value("buttress.inbox.receipts", &[("receipt", "repeated")]), Some(1.0));
    assert_eq!(value("buttress.barrier.passages", &[("passage", "overtaken")]), Some(2.0));
    assert_eq!(value("buttress.barrier.passages", &[("passage", "proceed")]), Some(0.0));
    assert_eq!(value("buttress.saga.started", &[("layer", "saga")]), Some(1.0));
    assert_eq!(value("buttress.call.duration", &[("outcome", "success")]), Some(1.0));
    assert_eq!(value("buttress.pool.limit", &[("layer", "db")]), Some(7.0));
}

#[test]
fn counters_that_stay_zero_are_series_as_soon_as_the_layer_is_made() {
    let keeper = Keeper::default();
    metrics::with_local_recorder(&keeper, || {
        let _layer = circuit_breaker::Config::new().name("api").build().unwrap();
        let _unnamed = retry::Config::new().build().unwrap();
    });
    let refused = [("layer", "api"), ("kind", "circuit-open")];
    assert_eq!(keeper.value("buttress.circuit_breaker.refused", &refused), Some(0.0));
    let opened = [("layer", "api"), ("to", "open")];
    assert_eq!(keeper.value("buttress.circuit_breaker.transitions", &opened), Some(0.0));
    let unnamed = [("layer", "retry")];
    assert_eq!(keeper.value("buttress.retry.exhausted", &unnamed), Some(0.0));
    assert_eq!(keeper.value("buttress.bulkhead.refused", &[]), None, "no bulkhead was made");
}

#[test]
fn a_counter_that_a_layer_cannot_move_is_no_series() {
    let keeper = Keeper::default();
    metrics::with_local_recorder(&keeper, || {
        let _plain = bulkhead::Config::new().name("plain").build().unwrap();
        let plain = rate_limit::Config::new().name("plain").build().unwrap();
        let _plain = circuit_breaker::Config::new().name("plain").build().unwrap();
        let key = |key: &u8| *key;
        let keyed =
            bulkhead::KeyedBulkheadLayer::new(bulkhead::Config::new().name("walls"), 9, key);
        // The configuration of a plain layer makes a keyed one, and the other way round.
        let config = plain.handle().config().name("buckets");
        let buckets = rate_limit::KeyedRateLimitLayer::new(config, 9, key).unwrap();
        let plans = [("free", rate_limit::Config::new())];
        let config = rate_limit::Config::new().name("plans");
        let plans = rate_limit::KeyedRateLimitLayer::with_plans(config, 9, key, plans, |_| "free");
        let again = buckets.handle().config().name("again").build().unwrap();
        let sampler = Sampler::new();
        sampler.watch(plain.handle());
        sampler.watch(keyed.unwrap().handle());
        sampler.watch(buckets.handle());
        sampler.watch(plans.unwrap().handle());
        sampler.watch(again.handle());
        sampler.record();
    });
    let value = |name, layer| keeper.value(name, &[("layer", layer)]);
    let (keys, queue) = ("buttress.keyed.refused", "buttress.queue.timed_out");
    assert_eq!((value(keys, "plain"), value(queue, "plain")), (None, Some(0.0)));
    assert_eq!((value(keys, "again"), value(queue, "again")), (None, Some(0.0)));
    assert_eq!((value(keys, "buckets"), value(queue, "buckets")), (Some(0.0), None));
    assert_eq!((value(keys, "plans"), value(queue, "plans")), (Some(0.0), None));
    // The handle of a key waits.
    assert_eq!((value(keys, "walls"), value(queue, "walls")), (Some(0.0), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn calls_of_keyed_layers_are_counted_on_request() {
    for counts in [true, false] {
        let (sampler, key) = (Sampler::new(), |key: &u8| *key);
        let config = bulkhead::Config::new().max_concurrent(1).count_calls(counts);
        let walls = bulkhead::KeyedBulkheadLayer::new(config, 9, key).unwrap().handle();
        let _permits = [walls.try_acquire(&1).unwrap(), walls.try_acquire(&2).unwrap()];
        assert!(walls.try_acquire(&1).is_err());
        assert_eq!(walls.stats().admitted, counts.then_some(2));

        let config = circuit_breaker::Config::new().count_calls(counts);
        let circuits = circuit_breaker::KeyedCircuitBreakerLayer::new(config, 9, key).unwrap();
        let circuits = circuits.handle();
        circuits.try_acquire(&1).unwrap().success();
        circuits.try_acquire(&1).unwrap().failure();
        circuits.try_acquire(&2).unwrap().failure();
        let stats = circuits.stats();
        assert_eq!((stats.failures, stats.admitted), (2, counts.then_some(3)));
        assert_eq!(stats.successes, counts.then_some(1));

        sampler.watch(walls);
        sampler.watch(circuits);
        let reading = sampler.read();
        let value = |name, layer| reading.value(name, &[("layer", layer)]);
        let counted = |value| if counts { Some(value) } else { None };
        assert_eq!(value("buttress.bulkhead.admitted", "bulkhead"), counted(2.0));
        let circuit = |name| value(name, "circuit_breaker");
        assert_eq!(circuit("buttress.circuit_breaker.admitted"), counted(3.0));
        assert_eq!(circuit("buttress.circuit_breaker.successes"), counted(1.0));
        assert_eq!(circuit("buttress.circuit_breaker.failures"), Some(2.0));
    }
}

#[test]
fn a_sampler_makes_series_of_layers_that_are_older_than_the_recorder() {
    let layer = bulkhead::Config::new().name("db").max_concurrent(3).build().unwrap();
    let sampler = Sampler::new();
    sampler.watch(layer.handle());
    let keeper = Keeper::default();
    let _permit = layer.handle().try_acquire().unwrap();
    metrics::with_local_recorder(&keeper, || sampler.record());
    let db = [("layer", "db")];
    assert_eq!(keeper.value("buttress.bulkhead.permits.used", &db), Some(1.0));
    assert_eq!(keeper.value("buttress.bulkhead.permits.limit", &db), Some(3.0));
    assert_eq!(keeper.value("buttress.bulkhead.refused", &db), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn refusals_of_a_gateway_are_events_and_counted_by_their_kind() {
    let keeper = Keeper::default();
    let _recording = metrics::set_default_local_recorder(&keeper);
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let ear = heard.clone();
    let mut gateway = gateway(move |layer: Name, event: &buttress::Event| {
        if let buttress::Event::Refused(error) = event {
            ear.lock().unwrap().push((layer.as_str(), error.kind()));
        }
    });
    let asks = [
        ("nowhere", Decision::Allow),
        ("orders", Decision::Unauthenticated),
        ("orders", Decision::Deny),
        ("orders", Decision::Allow),
        ("orders", Decision::Allow),
    ];
    for ask in asks {
        let _answer = gateway.call(ask).await;
    }
    let expected = [
        ("edge", ErrorKind::NoRoute),
        ("orders", ErrorKind::Unauthenticated),
        ("orders", ErrorKind::Forbidden),
        ("orders", ErrorKind::RateLimited),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    for (layer, kind) in &expected[..3] {
        let labels = [("layer", *layer), ("kind", kind.as_str())];
        assert_eq!(keeper.value("buttress.gateway.refused", &labels), Some(1.0), "{kind}");
    }
    let no_backend = [("layer", "orders"), ("kind", "no-backend")];
    assert_eq!(keeper.value("buttress.gateway.refused", &no_backend), Some(0.0));
    assert_eq!(keeper.value("buttress.circuit_breaker.transitions", &[]), None);
}

#[tokio::test]
async fn a_pool_reports_the_connections_that_are_used() {
    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(2);
    let pool = options.connect("sqlite::memory:").await.unwrap();
    let sampler = Sampler::new();
    sampler.watch(buttress_sqlx::PoolMonitor::new("db", &pool));
    let used = || sampler.read().value("buttress.pool.connections", &[("state", "used")]);
    let connection = pool.acquire().await.unwrap();
    assert_eq!(used(), Some(1.0));
    connection.close().await.unwrap();
    assert_eq!(used(), Some(0.0));
}
