//! The ready-made checks.

use std::time::Duration;

use buttress::health::Group;
use buttress::{StoreError, balance, bulkhead, circuit_breaker, discover};

use super::*;

#[tokio::test(start_paused = true)]
async fn edge_7_8_an_open_circuit_is_degraded_at_its_importance() {
    let expected = [
        (Importance::Critical, Status::Degraded),
        (Importance::High, Status::Degraded),
        (Importance::Medium, Status::Up),
        (Importance::Low, Status::Up),
    ];
    for (importance, status) in expected {
        let circuit = circuit_breaker::Config::new().consecutive_failures(1).build().unwrap();
        let health = orders().watch("payments", importance, circuit.handle()).unwrap();
        let start = now();
        let _running = health.spawn();
        until(start, 0).await;
        assert_eq!((health.status(), found(&health, "payments")), (Status::Up, (Status::Up, None)));
        circuit.handle().try_acquire().unwrap().failure();
        until(start, 10).await;
        let open = (Status::Degraded, Some("the circuit is open".to_owned()));
        assert_eq!(found(&health, "payments"), open);
        assert_eq!(health.status(), status, "{importance}");
        assert_eq!(health.group(Group::Ready), Status::Up, "a circuit never ends readiness");
        circuit.handle().reset();
        until(start, 20).await;
        assert_eq!(health.status(), Status::Up);
    }
}

#[tokio::test(start_paused = true)]
async fn forced_and_half_open_circuits_are_degraded_and_disabled_ones_are_up() {
    let open = Duration::from_secs(1);
    let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(open);
    let circuit = config.build().unwrap().handle();
    let health = orders().watch("payments", Importance::High, circuit.clone()).unwrap();
    let start = now();
    let _running = health.spawn();
    circuit.force_open();
    until(start, 10).await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(&health, "payments"), (Status::Degraded, text("the circuit is forced-open")));
    circuit.disable();
    until(start, 20).await;
    assert_eq!(found(&health, "payments"), (Status::Up, text("the circuit is disabled")));
    circuit.reset();
    circuit.try_acquire().unwrap().failure();
    until(start, 25).await;
    let _probe = circuit.try_acquire().unwrap();
    until(start, 30).await;
    assert_eq!(found(&health, "payments"), (Status::Degraded, text("the circuit is half-open")));
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_is_degraded_while_it_is_full_or_calls_wait() {
    let config = bulkhead::Config::new().max_concurrent(2).queue(5);
    let bulkhead = config.build().unwrap().handle();
    let health = orders().watch("db", Importance::High, bulkhead.clone()).unwrap();
    let start = now();
    let _running = health.spawn();
    let first = bulkhead.try_acquire().unwrap();
    until(start, 0).await;
    assert_eq!(found(&health, "db"), (Status::Up, None));
    let second = bulkhead.try_acquire().unwrap();
    until(start, 10).await;
    let full = Some("permits in use: 2 of 2; waiting calls: 0".to_owned());
    assert_eq!(found(&health, "db"), (Status::Degraded, full));
    let waiter = bulkhead.clone();
    let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
    until(start, 20).await;
    let waits = Some("permits in use: 2 of 2; waiting calls: 1".to_owned());
    assert_eq!(found(&health, "db"), (Status::Degraded, waits));
    drop((first, second));
    drop(waiting.await.unwrap());
    until(start, 30).await;
    assert_eq!(found(&health, "db"), (Status::Up, None));
}

/// Watches a balancer over endpoints that are never called. The balancer keeps its resolver.
fn watch_balancer(
    resolve: impl discover::Resolve + 'static,
) -> (Health, balance::Handle, impl Sized) {
    let make = |_: &discover::Instance| tower::service_fn(|()| async { Ok::<_, StoreError>(()) });
    let balance = balance::Balance::resolving(resolve, make, balance::Config::new()).unwrap();
    let handle = balance.handle();
    let health = orders().watch("backends", Importance::High, handle.clone()).unwrap();
    (health, handle, balance)
}

#[tokio::test(start_paused = true)]
async fn a_balancer_is_degraded_without_an_endpoint_that_is_in_and_down_without_one_at_all() {
    let two = ["one", "two"].map(discover::Instance::at);
    let (health, handle, _balance) = watch_balancer(discover::fixed(two));
    let start = now();
    until(start, 1).await;
    let _running = health.spawn();
    until(start, 2).await;
    assert_eq!(found(&health, "backends"), (Status::Up, None));
    assert!(handle.mark_down("one"));
    until(start, 12).await;
    let some = Some("endpoints in: 1 of 2".to_owned());
    assert_eq!(found(&health, "backends"), (Status::Up, some));
    assert!(handle.mark_down("two"));
    until(start, 22).await;
    let none = Some("all 2 endpoints are out".to_owned());
    assert_eq!(found(&health, "backends"), (Status::Degraded, none));
    let (health, _, _balance) = watch_balancer(discover::fixed([]));
    let _running = health.spawn();
    until(start, 23).await;
    assert_eq!(found(&health, "backends"), down("the set has no endpoint"));
}

/// A resolver that returns one instance, and then fails.
struct Fails {
    asked: u32,
}

impl discover::Resolve for Fails {
    async fn next(&mut self) -> Result<Vec<discover::Instance>, StoreError> {
        self.asked += 1;
        match self.asked {
            1 => Ok(vec![discover::Instance::at("one")]),
            _ => Err(StoreError::transient("no answer")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_is_degraded_while_an_instance_is_left_out() {
    let make = |instance: &discover::Instance| match instance.address() {
        "bad" => Err("no address"),
        _ => Ok(tower::service_fn(|()| async { Ok::<_, StoreError>(()) })),
    };
    let resolve = discover::fixed(["bad", "one"].map(discover::Instance::at));
    let balance = balance::Balance::try_resolving(resolve, make, balance::Config::new()).unwrap();
    let health = orders().watch("backends", Importance::High, balance.handle()).unwrap();
    let start = now();
    until(start, 9).await;
    let _running = health.spawn();
    until(start, 10).await;
    let text = "instances left out of the set: 1".to_owned();
    assert_eq!(found(&health, "backends"), (Status::Degraded, Some(text)));
}

#[tokio::test(start_paused = true)]
async fn a_balancer_is_degraded_while_its_resolver_fails() {
    let (health, _, _balance) = watch_balancer(Fails { asked: 0 });
    let start = now();
    until(start, 9).await;
    let _running = health.spawn();
    until(start, 10).await;
    let (status, text) = found(&health, "backends");
    let text = text.unwrap();
    assert_eq!(status, Status::Degraded);
    assert!(
        text.starts_with("the resolver fails; the set is ") && text.ends_with(" old"),
        "{text}"
    );
}

#[test]
fn the_state_of_each_check_is_a_gauge() {
    use buttress::telemetry::Sampler;

    let health = critical(orders(), fine);
    let sampler = Sampler::new();
    sampler.watch(health.clone());
    let reading = sampler.read();
    let of = |state| [("layer", "orders"), ("check", "db"), ("state", state)];
    assert_eq!(reading.value("buttress.health.check.state", &of("unknown")), Some(1.0));
    assert_eq!(reading.value("buttress.health.check.state", &of("up")), Some(0.0));
    let of = |state| [("layer", "orders"), ("state", state)];
    assert_eq!(reading.value("buttress.health.state", &of("degraded")), Some(1.0));
    assert_eq!(reading.value("buttress.health.state", &of("up")), Some(0.0));
}

#[tokio::test]
async fn a_pool_is_down_when_its_database_does_not_answer() {
    use buttress::health::Watch;

    let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
    let pool = options.connect("sqlite::memory:").await.unwrap();
    let monitor = buttress_sqlx::PoolMonitor::new("db", &pool);
    assert_eq!(monitor.look().await, Finding::up());
    pool.close().await;
    let finding = monitor.look().await;
    assert_eq!(finding.status(), Status::Down);
    assert!(finding.text().is_some_and(|text| text.contains("closed")), "{finding:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outbox_is_degraded_while_a_message_is_late() {
    use buttress_durable::outbox::{BacklogCheck, MemoryStore, Outbox};

    let store = MemoryStore::new(Clock::default());
    let outbox = Outbox::new(store.clone());
    let health = orders().watch("outbox", Importance::High, BacklogCheck::new(store.clone()));
    let health = health.unwrap();
    let start = now();
    let _running = health.spawn();
    let mut tx = store.begin();
    outbox.write(&mut tx, outbox.message("order-7", "paid")).await.unwrap().committed();
    tx.commit();
    until(start, 300).await;
    assert_eq!(health.status(), Status::Up);
    until(start, 310).await;
    let (status, text) = found(&health, "outbox");
    assert_eq!(status, Status::Degraded);
    assert!(text.is_some_and(|text| text.starts_with("the oldest due message has been due for 3")));
    assert_eq!(health.status(), Status::Degraded);
}
