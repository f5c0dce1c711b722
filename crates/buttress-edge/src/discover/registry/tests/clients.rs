use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress::balance;
use buttress::discover::{Instance, Resolve};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::Service;

use super::super::client::config;
use super::*;
use crate::Upstream;
use crate::client::{ClientErrorKind, ServiceClient};
use crate::discover::{Announcement, RegistryClient};
use crate::forward::Connector;
use crate::tests::Network;

/// Serves a registry under the name `registry`, until the handle is aborted.
fn listen(network: &Network, registry: &RegistryService) -> JoinHandle<()> {
    let mut backend = network.listen("registry");
    let registry = registry.clone();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let io = TokioIo::new(backend.accept().await.into_io());
            let registry = registry.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(PEER.into()));
                registry.clone().call(request)
            });
            connections.spawn(async move {
                drop(http1::Builder::new().serve_connection(io, service).await);
            });
        }
    })
}

fn client(network: &Network) -> ServiceClient {
    let upstream = Upstream::fixed(["http://registry"]).unwrap();
    let connector =
        Connector::new(Duration::from_secs(2), Clock::default()).memory(network.clone());
    ServiceClient::connecting("registry", upstream, config(), connector).unwrap()
}

fn resolver(network: &Network) -> RegistryClient {
    RegistryClient::over(client(network), "orders").unwrap()
}

fn announcement(network: &Network, id: &str) -> Announcement {
    Announcement::over(client(network), "orders", id, "10.0.0.7:8001")
        .unwrap()
        .secret(SECRET)
        .unwrap()
}

fn since(start: std::time::Instant) -> f64 {
    Clock::default().now().duration_since(start).as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_resolver_returns_each_set_once_and_waits_for_the_next() {
    let (network, registry) = (Network::default(), known().await);
    let _listening = listen(&network, &registry);
    let mut resolver = resolver(&network);
    assert_eq!(resolver.next().await.unwrap(), [], "the registry knows that there is none");
    let body = r#"{"address":"10.0.0.7:8001","weight":3,"metadata":{"zone":"b"}}"#;
    let writer = registry.clone();
    let start = Clock::default().now();
    let write = tokio::spawn(async move {
        // Longer than one wait of the client.
        sleep(40).await;
        let put = Ask { body: body.into(), ..ask(Method::PUT, "/services/orders/orders-1") };
        put.status(&writer).await
    });
    let expected =
        Instance::new("orders-1", "10.0.0.7:8001").with_weight(3).with_metadata("zone", "b");
    assert_eq!(resolver.next().await.unwrap(), [expected]);
    assert_eq!(since(start), 40.0);
    assert_eq!(write.await.unwrap(), 200);
}

/// Regression: the client asked as fast as the network answered.
#[tokio::test(start_paused = true)]
async fn edge_5_13_a_registry_with_a_new_version_in_each_answer_is_asked_once_a_second() {
    let network = Network::default();
    let mut backend = network.listen("registry");
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut connection = backend.accept().await;
        // The last answer never comes, so that a client without a pause does not stop the clock.
        for version in 1..1000 {
            connection.read_head().await;
            count.fetch_add(1, Ordering::Relaxed);
            let text = format!(
                r#"{{"version":"v{version}","instances":[{{"id":"1","address":"10.0.0.7:{version}"}}]}}"#
            );
            let length = text.len();
            connection
                .write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"))
                .await;
        }
        connection.read_head().await;
        std::future::pending::<()>().await;
    });
    let upstream = Upstream::resolving(resolver(&network), balance::Config::new()).unwrap();
    sleep(10).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!((9..=11).contains(&asked), "{asked}");
    assert_eq!(upstream.handle().stats().endpoints, 1);
}

#[tokio::test(start_paused = true)]
async fn edge_5_1_a_registry_that_is_away_or_has_just_started_is_an_error_and_no_empty_set() {
    let network = Network::default();
    let mut resolver = resolver(&network);
    let error = resolver.next().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "store: transient: orders: the registry does not answer with a set"
    );
    assert!(std::error::Error::source(&error).is_some());

    let first = known().await;
    beat("/services/orders/1", "10.0.0.7:8001").of(&first).await;
    let listening = listen(&network, &first);
    assert_eq!(resolver.next().await.unwrap().len(), 1);
    listening.abort();
    drop(listening.await);

    // Edge 5.18: the next registry has none of the instances.
    let second = super::registry();
    let _listening = listen(&network, &second);
    let start = Clock::default().now();
    let error = loop {
        // The connections of the first registry fail.
        let error = resolver.next().await.unwrap_err();
        if error.to_string().contains("knows no set now") {
            break error;
        }
    };
    assert_eq!(error.to_string(), "store: transient: orders: the registry knows no set now");
    sleep(5).await;
    beat("/services/orders/2", "10.0.0.7:8002").of(&second).await;
    sleep(30 - since(start) as u64).await;
    // The version of the first registry is none of the second, so there is no wait.
    let start = Clock::default().now();
    assert_eq!(resolver.next().await.unwrap(), [Instance::new("2", "10.0.0.7:8002")]);
    assert_eq!(since(start), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_announced_three_times_in_a_ttl_and_leaves_when_it_stops() {
    let (network, registry) = (Network::default(), known().await);
    let _listening = listen(&network, &registry);
    let (stop, stopped) = oneshot::channel::<()>();
    let announcement = announcement(&network, "1").weight(2).metadata("zone", "a");
    let announced = tokio::spawn(announcement.until(async { drop(stopped.await) }));
    let mut resolver = resolver(&network);
    loop {
        let set = resolver.next().await.unwrap();
        if let [instance] = set.as_slice() {
            let expected =
                Instance::new("1", "10.0.0.7:8001").with_weight(2).with_metadata("zone", "a");
            assert_eq!(*instance, expected);
            break;
        }
    }
    // Without heartbeats it would expire.
    sleep(95).await;
    assert_eq!(registry.stats().instances, 1);
    stop.send(()).unwrap();
    announced.await.unwrap().unwrap();
    assert_eq!(registry.stats().instances, 0);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_fails_is_repeated_soon() {
    let (network, registry) = (Network::default(), known().await);
    let start = Clock::default().now();
    let announced = tokio::spawn(announcement(&network, "1").until(std::future::pending()));
    // Attempts at 0, 1, 3, 7 and 15 seconds; later ones every 10 seconds.
    sleep(5).await;
    let _listening = listen(&network, &registry);
    while registry.stats().instances == 0 {
        sleep(1).await;
        assert!(since(start) < 60.0, "no heartbeat arrives");
    }
    // The test looks once a second.
    assert!((7.0..=8.0).contains(&since(start)), "{}", since(start));
    announced.abort();
}

/// Regression: a heartbeat under way was dropped, and could arrive after the removal.
#[tokio::test(start_paused = true)]
async fn the_removal_waits_for_the_heartbeat_that_is_under_way() {
    let network = Network::default();
    let mut backend = network.listen("registry");
    let (stop, stopped) = oneshot::channel::<()>();
    let announcement = announcement(&network, "1").weight(0);
    let announced = tokio::spawn(announcement.until(async { drop(stopped.await) }));
    let (mut connection, head) = backend.accept_request().await;
    assert!(head.starts_with("PUT /services/orders/1 "), "{head}");
    connection.read_until(r#""weight":1"#).await;
    stop.send(()).unwrap();
    sleep(3).await;
    let taken = r#"{"ttl_ms":30000}"#;
    let length = taken.len();
    connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{taken}")).await;
    let head = connection.read_until("DELETE /services/orders/1 ").await;
    assert!(!head.contains("PUT"), "{head}");
    connection.read_head().await;
    connection.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    announced.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_refuses_the_removal_is_an_error() {
    let (network, registry) = (Network::default(), known().await);
    let _listening = listen(&network, &registry);
    let wrong = Announcement::over(client(&network), "orders", "1", "10.0.0.7:8001").unwrap();
    let error = wrong.secret("a-secret-of-another-registry").unwrap();
    let error = error.until(std::future::ready(())).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ClientErrorKind::Status, Some(StatusCode::UNAUTHORIZED))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_and_no_secret_is_refused() {
    let network = Network::default();
    let refused = RegistryClient::over(client(&network), "or ders").unwrap_err();
    assert_eq!(refused.field(), "service");
    for (service, id, field) in [("", "1", "service"), ("orders", "a/b", "id")] {
        let error = Announcement::over(client(&network), service, id, "10.0.0.7:1").unwrap_err();
        assert_eq!(error.field(), field);
    }
    for address in ["nowhere", "orders:8001", "ftp://10.0.0.7:1", ""] {
        let error = Announcement::over(client(&network), "orders", "1", address).unwrap_err();
        assert_eq!(error.field(), "address", "{address}");
    }
    let announcement = Announcement::over(client(&network), "orders", "1", "10.0.0.7:1").unwrap();
    let secret = "short";
    let error = announcement.secret(secret).unwrap_err();
    assert!(!error.to_string().contains(secret), "{error}");
}
