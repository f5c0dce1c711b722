use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use super::*;

/// Answers of a name server, and the seconds at which it was asked.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<io::Result<Vec<SocketAddr>>>>>,
    asked: Arc<Mutex<Vec<f64>>>,
    start: Instant,
}

fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|port| SocketAddr::from(([10, 0, 0, 1], *port))).collect()
}

impl Script {
    fn new(answers: impl IntoIterator<Item = io::Result<Vec<SocketAddr>>>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        Self { answers, asked: Arc::default(), start: Clock::default().now() }
    }

    fn resolver(&self) -> Dns {
        let script = self.clone();
        let lookup: Lookup = Arc::new(move |name| {
            assert_eq!(name, "orders:8001");
            let at = Clock::default().now().duration_since(script.start);
            script.asked.lock().unwrap().push(at.as_secs_f64());
            let answer = script.answers.lock().unwrap().pop_front();
            Box::pin(std::future::ready(answer.expect("asked too often")))
        });
        dns("orders:8001").unwrap().rng(Rng::seeded(7)).looked_up_by(lookup)
    }
}

fn ids(set: &[Instance]) -> Vec<&str> {
    set.iter().map(Instance::id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_set_is_returned_when_it_has_changed_whatever_its_order() {
    let script = Script::new([
        Ok(addresses(&[2, 1, 2])),
        Ok(addresses(&[1, 2])),
        Ok(addresses(&[2, 1])),
        Ok(addresses(&[1, 3])),
    ]);
    let mut dns = script.resolver();
    assert_eq!(ids(&dns.next().await.unwrap()), ["10.0.0.1:1", "10.0.0.1:2"]);
    assert_eq!(ids(&dns.next().await.unwrap()), ["10.0.0.1:1", "10.0.0.1:3"]);
    let asked = script.asked.lock().unwrap().clone();
    assert_eq!(asked[0], 0.0);
    for pair in asked.windows(2) {
        let wait = pair[1] - pair[0];
        assert!((27.0..=33.01).contains(&wait), "{asked:?}");
    }
    assert!(asked[1] != 30.0 || asked[2] != 60.0, "the waits differ: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn edge_5_1_a_failure_is_an_error_and_the_next_lookup_follows_when_the_balancer_asks() {
    let script = Script::new([
        Ok(addresses(&[1])),
        Err(io::Error::other("no server")),
        Ok(Vec::new()),
        Ok(addresses(&[1])),
        Ok(addresses(&[2])),
    ]);
    let mut dns = script.resolver();
    dns.next().await.unwrap();
    let error = dns.next().await.unwrap_err();
    assert_eq!(error.to_string(), "store: transient: orders:8001: the name has no address now");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "no server");
    let failed = *script.asked.lock().unwrap().last().unwrap();
    // Edge 5.2: a name without an address may be a failure, so it is never an empty set.
    assert!(dns.next().await.is_err());
    assert_eq!(*script.asked.lock().unwrap().last().unwrap(), failed, "without a wait");
    assert_eq!(ids(&dns.next().await.unwrap()), ["10.0.0.1:2"]);
}

#[tokio::test]
async fn a_name_of_the_system_is_looked_up() {
    let set = dns("localhost:8001").unwrap().next().await.unwrap();
    assert!(ids(&set).iter().any(|id| ["127.0.0.1:8001", "[::1]:8001"].contains(id)), "{set:?}");
    let set = dns("127.0.0.1:8001").unwrap().next().await.unwrap();
    assert_eq!(ids(&set), ["127.0.0.1:8001"]);
}

#[test]
fn what_is_no_host_with_a_port_is_refused() {
    for name in [
        "",
        "orders",
        ":80",
        "orders:",
        "orders:x",
        "orders:+80",
        "orders:65536",
        "a/b:80",
        "::1:80",
    ] {
        assert_eq!(dns(name).unwrap_err().field(), "dns", "{name}");
    }
    for name in ["orders:80", "[::1]:80", "orders.internal:8001"] {
        assert!(dns(name).is_ok(), "{name}");
    }
}
