//! Limiters whose tokens are in Redis.

use std::sync::Arc;
use std::time::Duration;

use buttress::health::Watch as _;
use buttress::{Clock, ErrorKind, VirtualClock};
use buttress_redis::Redis;
use buttress_redis::rate_limit::{Config, Handle, OnOutage};
use buttress_sim::TcpProxy;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use crate::child::Children;
use crate::server::{Scene, Server, at, fresh};

const SECOND: Duration = Duration::from_secs(1);

fn limiter(redis: &Redis, config: Config) -> Handle {
    redis.rate_limit(config).unwrap().handle()
}

fn config(name: &str) -> Config {
    // So long that no call of a busy test machine counts as an outage.
    Config::new(name.to_owned()).call_limit(10 * SECOND)
}

/// The microseconds of the server's clock.
async fn server_time(scene: &Scene) -> u64 {
    let (seconds, micros): (u64, u64) = scene.ask(&["TIME"]).await;
    seconds * 1_000_000 + micros
}

/// Takes tokens from several tasks as fast as Redis answers. Returns how many calls passed.
pub(crate) async fn take(handle: &Handle, key: &str, calls: usize, tasks: usize) -> u64 {
    let mut running = Vec::new();
    for task in 0..tasks {
        let (handle, key) = (handle.clone(), key.to_owned());
        let calls = (calls + task) / tasks;
        running.push(tokio::spawn(async move {
            let mut passed = 0;
            for _ in 0..calls {
                passed += u64::from(handle.try_acquire(&key, 1).await.is_ok());
            }
            passed
        }));
    }
    let mut passed = 0;
    for task in running {
        passed += task.await.unwrap();
    }
    passed
}

#[tokio::test]
async fn patterns_6_1_processes_together_admit_exactly_the_burst_and_the_rate() {
    let Some(scene) = Scene::of("a limit of several processes", 1).await else { return };
    // 3 tokens in 10 ms: the interval is not a whole number of microseconds.
    let limit =
        [("max", "100".to_owned()), ("refill", "3".to_owned()), ("millis", "10".to_owned())];
    let begun = server_time(&scene).await;
    let mut children = Children::default();
    for number in 0..4 {
        let skew = (number * 3600).to_string();
        let mut values = limit.to_vec();
        values.extend([
            ("name", scene.name.clone()),
            ("calls", "25000".to_owned()),
            ("skew", skew),
        ]);
        children.start("limit", &scene.url, &values);
    }
    // On a busy machine a process takes a second to start.
    let bucket = format!("buttress:limit:{}:{{a}}", scene.name);
    crate::server::until("a process takes a token", async || scene.ask(&["EXISTS", &bucket]).await)
        .await;
    let first = server_time(&scene).await;
    let passed: u64 = children.lines().await.iter().map(|line| line.parse::<u64>().unwrap()).sum();
    let end = server_time(&scene).await;
    let came = |since: u64| 100 + (end - since) * 3 / 10_000;
    let most = came(begun);
    assert!(passed <= most, "{passed} of at most {most} in {} us", end - begun);
    // 100 000 calls take some seconds, and every token that came is taken.
    let least = came(first) * 95 / 100;
    assert!(passed >= least, "{passed} of at least {least} in {} us", end - first);
    scene.end().await;
}

#[tokio::test]
async fn patterns_6_1_the_clock_of_the_process_does_not_matter() {
    let Some(scene) = Scene::of("a clock that is wrong", 1).await else { return };
    let time = VirtualClock::new();
    let rule = || config(&scene.name).max_tokens(5).refill(1, 1000 * SECOND);
    let skewed = limiter(&at(&scene.url).clock(time.clock()), rule());
    let other = limiter(&scene.redis, rule());
    for handle in [&skewed, &other, &skewed, &other, &skewed] {
        handle.try_acquire("a", 1).await.unwrap();
    }
    time.advance(3600 * SECOND);
    for handle in [&skewed, &other] {
        let error = handle.try_acquire("a", 1).await.unwrap_err();
        let wait = error.retry_after().unwrap();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::RateLimited, &*scene.name));
        assert!(wait > 990 * SECOND && wait <= 1000 * SECOND, "{wait:?}");
    }
    let error = other.try_acquire("a", 6).await.unwrap_err();
    assert_eq!(error.retry_after(), None, "a bucket never has so many");
    other.try_acquire("b", 5).await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn patterns_6_2_an_outage_switches_at_once_and_ends_without_a_burst() {
    let Some(mut server) = Server::start("a limit during an outage", &[]).await else { return };
    let proxy = TcpProxy::to(([127, 0, 0, 1], server.port()).into()).unwrap();
    let redis = at(&format!("redis://{}", proxy.address()));
    // A token in a thousand seconds: what passes is the burst.
    let rule = Config::new("search").max_tokens(100).refill(1, 1000 * SECOND);
    let rule = rule.on_outage(OnOutage::Local { share: 0.5 });
    // A busy machine does not miss the limit, and the calls of the outage end before Redis is asked again.
    let limit = 2 * SECOND;
    let handle = limiter(&redis, rule.call_limit(limit).retry_after(3 * limit));
    let clock = Clock::default();
    for _ in 0..20 {
        handle.try_acquire("a", 1).await.unwrap();
    }
    assert_eq!(handle.stats().without_redis, 0);
    // Redis is there, and does not answer.
    let scene = Scene::at(server.url(), 1);
    let _: () = scene.ask(&["CLIENT", "PAUSE", "60000", "ALL"]).await;
    let (mut passed, mut slow) = (20, 0);
    for _ in 0..200 {
        let begun = clock.now();
        passed += u64::from(handle.try_acquire("a", 1).await.is_ok());
        let took = clock.now() - begun;
        assert!(took < 5 * limit, "the limit, and some for a busy machine: {took:?}");
        slow += usize::from(took >= limit);
    }
    assert_eq!(slow, 1, "one call waits, the others do not");
    assert_eq!(passed, 50, "the bucket of the process was warm");
    let finding = format!("{:?}", handle.look().await);
    assert!(finding.contains("no answer from Redis"), "{finding}");
    // Redis is back, without its data.
    proxy.cut();
    server.kill();
    let error = handle.try_acquire("a", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    server.run().await.unwrap();
    let _: () = scene.ask(&["FLUSHALL"]).await;
    crate::server::until("Redis decides again", async || {
        passed += u64::from(handle.try_acquire("a", 1).await.is_ok());
        handle.circuit().state() == buttress::CircuitState::Closed
    })
    .await;
    for _ in 0..200 {
        passed += u64::from(handle.try_acquire("a", 1).await.is_ok());
    }
    assert!(passed <= 101, "one bucket in all, and a token for the time: {passed}");
    assert!(passed >= 98, "{passed}");
    assert!(format!("{:?}", handle.look().await).contains("Up"));
}

#[tokio::test]
async fn patterns_6_2_an_outage_allows_or_refuses_where_told() {
    let clock = Clock::default();
    for (policy, kind) in
        [(OnOutage::Allow, None), (OnOutage::Refuse, Some(ErrorKind::CircuitOpen))]
    {
        // A hundred waits would take a hundred seconds.
        let rule = Config::new("search").on_outage(policy).call_limit(SECOND);
        let handle = limiter(&at("redis://127.0.0.1:1"), rule);
        let begun = clock.now();
        for _ in 0..100 {
            let error = handle.try_acquire("a", 1).await.err();
            assert_eq!(error.map(|error| error.kind()), kind, "{policy:?}");
        }
        assert!(clock.now() - begun < 20 * SECOND);
        assert_eq!(handle.stats().without_redis, 100);
    }
}

#[tokio::test]
async fn patterns_6_3_a_bucket_is_one_key_in_a_cluster() {
    let Some(server) = Server::start("a cluster", &["--cluster-enabled", "yes"]).await else {
        return;
    };
    let scene = Scene::at(server.url(), 1);
    // One node with every slot refuses a script whose keys are in several slots, as three nodes do.
    let _: () = scene.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    crate::server::until("the cluster is formed", async || {
        let info: String = scene.ask(&["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:ok")
    })
    .await;
    let handle = limiter(&scene.redis, config("search").max_tokens(1).refill(1, 100 * SECOND));
    let long = "k".repeat(5000);
    for key in ["", "a", "{b}", "10.0.0.1", "\u{e9}}{", &long] {
        handle.try_acquire(key, 1).await.unwrap();
        handle.try_acquire(key, 1).await.unwrap_err();
    }
    assert_eq!(handle.stats().without_redis, 0);
    let keys: Vec<String> = scene.ask(&["KEYS", "*"]).await;
    assert_eq!(keys.len(), 6, "{keys:?}");
    assert!(keys.iter().all(|key| key.len() < 300));
    // Every key of a topic is in one slot, so its scripts work here too.
    let mut publisher = scene.publisher(buttress_redis::streams::Trim::Handled).await;
    let source = crate::consumers::Collected::by(scene.source("billing").await);
    crate::consumers::publish(&mut publisher, crate::consumers::message("a", "1")).await;
    source.until_has(1).await;
    publisher.trim().await.unwrap();
    source.consumer.shut_down().await;
}

#[tokio::test]
async fn patterns_6_4_one_a_day_and_a_million_a_second_are_exact() {
    let Some(scene) = Scene::of("very slow and very fast limits", 1).await else { return };
    let day = Duration::from_secs(24 * 3600);
    let name = |what: &str| format!("{}-{what}", scene.name);
    let slow = limiter(&scene.redis, config(&name("slow")).max_tokens(100_000).refill(1, day));
    slow.try_acquire("a", 99_999).await.unwrap();
    let before = server_time(&scene).await;
    slow.try_acquire("a", 1).await.unwrap();
    let error = slow.try_acquire("a", 1).await.unwrap_err();
    let wait = error.retry_after().unwrap();
    let passed = Duration::from_micros(server_time(&scene).await - before) + SECOND;
    assert!(wait <= day && wait + passed >= day, "{wait:?}");
    // All tokens of a bucket that is filled at a million a second.
    let million = 1_000_000;
    let fast = config(&name("fast")).max_tokens(million).refill(million, SECOND);
    let fast = limiter(&scene.redis, fast);
    let begun = server_time(&scene).await;
    let mut passed = 0;
    while server_time(&scene).await < begun + million as u64 {
        passed += if fast.try_acquire("a", 9_973).await.is_ok() { 9_973 } else { 0 };
    }
    let micros = server_time(&scene).await - begun;
    assert!(passed <= million as u64 + micros, "{passed} in {micros} us");
    // A third of a microsecond is counted too.
    let thirds = config(&name("thirds")).max_tokens(1).refill(3, 10 * SECOND);
    let thirds = limiter(&scene.redis, thirds);
    thirds.try_acquire("a", 1).await.unwrap();
    let stored: String =
        scene.ask(&["GET", &format!("buttress:limit:{}:{{a}}", name("thirds"))]).await;
    assert!(stored.ends_with(" 1 3"), "a third of a token's time: {stored}");
    scene.end().await;
}

#[tokio::test]
async fn limits_that_a_script_cannot_count_exactly_are_refused() {
    let redis = at("redis://127.0.0.1:1");
    let day = Duration::from_secs(24 * 3600);
    let new = || Config::new("a");
    for (config, field) in [
        (new().max_tokens(0), "max-tokens"),
        (new().max_tokens(104_250).refill(1, day), "max-tokens"),
        (new().refill(0, SECOND), "refill-tokens"),
        (new().refill(1_000_001, SECOND), "refill-tokens"),
        (new().refill(1, Duration::from_nanos(999)), "refill-period"),
        (new().call_limit(Duration::ZERO), "call-limit"),
        (new().retry_after(Duration::ZERO), "retry-after"),
        (new().local_keys(0), "local-keys"),
        (new().on_outage(OnOutage::Local { share: 0.0 }), "share"),
        (new().on_outage(OnOutage::Local { share: 1.1 }), "share"),
        (new().on_outage(OnOutage::Local { share: f64::NAN }), "share"),
    ] {
        let error = redis.rate_limit(config).unwrap_err();
        assert_eq!((error.layer(), error.field()), (Some("a"), field), "{error}");
    }
    assert!(redis.rate_limit(new().max_tokens(104_249).refill(1, day)).is_ok());
}

#[tokio::test]
async fn a_layer_limits_by_key_and_cost_and_answers_as_told() {
    let Some(scene) = Scene::of("a layer of limits", 1).await else { return };
    let rule = config(&scene.name).max_tokens(10).refill(1, 1000 * SECOND);
    let layer = scene.redis.rate_limit(rule).unwrap();
    let layer = layer
        .by(|request: &(String, u32)| request.0.clone())
        .cost(|request: &(String, u32)| request.1);
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .service_fn(async |request: (String, u32)| Ok::<_, BoxError>(request.1));
    // Inside of a task, as a server calls it.
    let task = tokio::spawn({
        let service = service.clone();
        async move {
            let call = |key: &str, cost| service.clone().oneshot((key.to_owned(), cost));
            assert_eq!(call("a", 8).await.unwrap(), 8);
            let error = call("a", 3).await.unwrap_err();
            let error = error.downcast::<buttress::Error>().unwrap();
            assert_eq!(error.kind(), ErrorKind::RateLimited);
            assert_eq!(call("b", 10).await.unwrap(), 10);
            assert_eq!(call("a", 2).await.unwrap(), 2);
        }
    });
    task.await.unwrap();
    let stats = layer.handle().stats();
    assert_eq!((stats.admitted, stats.refused, stats.without_redis), (3, 1, 0));
    let answers =
        layer.reject(buttress::as_response(|error: buttress::Error| error.layer().len() as u32));
    let service = ServiceBuilder::new()
        .layer(answers)
        .service_fn(async |request: (String, u32)| Ok::<_, std::convert::Infallible>(request.1));
    assert_eq!(service.oneshot(("a".to_owned(), 1)).await.unwrap(), scene.name.len() as u32);
    scene.end().await;
}

#[tokio::test]
async fn a_dropped_call_keeps_the_debt_of_an_outage() {
    let Some(server) = Server::start("a dropped call", &[]).await else { return };
    let proxy = TcpProxy::to(([127, 0, 0, 1], server.port()).into()).unwrap();
    proxy.refuse(true);
    let redis = at(&format!("redis://{}", proxy.address()));
    let rule = config(&fresh("debt")).max_tokens(10).refill(1, 1000 * SECOND);
    let rule = rule.on_outage(OnOutage::Local { share: 1.0 }).retry_after(Duration::from_millis(1));
    let handle = Arc::new(limiter(&redis, rule));
    for _ in 0..6 {
        handle.try_acquire("a", 1).await.unwrap();
    }
    proxy.refuse(false);
    let mut passed = 6;
    while handle.circuit().state() != buttress::CircuitState::Closed || passed == 6 {
        let begun = Box::pin(handle.try_acquire("a", 1));
        // The first poll takes the debt out; the drop puts it back.
        drop(futures_polled_once(begun).await);
        passed += u64::from(handle.try_acquire("a", 1).await.is_ok());
        assert!(passed <= 10);
    }
    for _ in 0..20 {
        passed += u64::from(handle.try_acquire("a", 1).await.is_ok());
    }
    assert!(passed <= 10, "{passed}");
}

/// Polls a future once.
async fn futures_polled_once<F: Future + Unpin>(mut future: F) -> F {
    std::future::poll_fn(|cx| {
        let _ready = std::pin::Pin::new(&mut future).poll(cx).is_ready();
        std::task::Poll::Ready(())
    })
    .await;
    future
}
