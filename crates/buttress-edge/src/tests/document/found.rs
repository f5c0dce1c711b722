//! Backends that a document finds in a file, and at a registry of https.

use std::time::Duration;

use buttress::Clock;

use super::sides::{answers, side};
use super::*;

#[tokio::test(start_paused = true)]
async fn edge_2_52_a_document_finds_backends_in_a_file() {
    let file = std::env::temp_dir().join(format!("buttress-edge-set-{}", std::process::id()));
    std::fs::write(&file, "one 127.0.0.1:8001\n").unwrap();
    let edge = Edge::new(Config::new(), []);
    for authority in ["127.0.0.1:8001", "127.0.0.1:8002"] {
        answers(&edge, authority);
    }
    let text = format!(
        "[routes.a]\npublic = true\nupstream = {{ file = {file:?}, every = \"2s\", \
         balance = {{ max-wait = \"30s\" }} }}"
    );
    let handle = edge.proxy.handle();
    handle.apply(&toml(&text)).unwrap();
    assert_eq!(side(&edge).await, (200, "127.0.0.1:8001".into()));
    std::fs::write(&file, "two 127.0.0.1:8002\n").unwrap();
    let clock = Clock::default();
    let begun = clock.now();
    while side(&edge).await.1 == "127.0.0.1:8001" {
        clock.sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(side(&edge).await, (200, "127.0.0.1:8002".into()));
    let taken = clock.now() - begun;
    assert!(taken <= Duration::from_millis(2100), "{taken:?}");
    std::fs::remove_file(&file).unwrap();
    // A file that is missing is not an error of the document, and the set stays.
    let other = text.replace("public = true", "public = true\nmax-request-body = 7");
    handle.apply(&toml(&other)).unwrap();
    assert_eq!(side(&edge).await, (200, "127.0.0.1:8002".into()));
}

/// Regression: a document asked its registry with the authorities of the operating system, whatever the proxy believes.
#[cfg(all(feature = "registry", feature = "tls"))]
#[tokio::test]
async fn edge_2_52_a_document_asks_a_registry_by_the_roots_of_the_proxy() {
    use std::future::IntoFuture;

    use crate::discover::Registry;
    use crate::tests::support::in_time;
    use crate::{Certificate, Roots};

    const CERTIFICATE: &[u8] = include_bytes!("../../admit/jwt/tests/keys/localhost.pem");
    const KEY: &[u8] = include_bytes!("../../admit/jwt/tests/keys/localhost.key.pem");
    const AUTHORITY: &[u8] = include_bytes!("../../admit/jwt/tests/keys/localhost_authority.pem");
    let certificate = Certificate::pem(CERTIFICATE, KEY).unwrap();
    let trusted = Config::new().roots(Roots::pem(AUTHORITY).unwrap());

    let clock = buttress::VirtualClock::new();
    let registry = Registry::new().clock(clock.clock()).open_to_everyone();
    let registry = registry.networks(["127.0.0.0/8"]).unwrap().into_service().unwrap();
    clock.advance(Duration::from_secs(30));
    let put =
        Request::put("/services/orders/1").body(Body::from(r#"{"address":"127.0.0.1:8001"}"#));
    let put = tower::ServiceExt::oneshot(registry.clone(), put.unwrap()).await.unwrap();
    assert_eq!(put.status(), 200);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = crate::serve(listener, registry).tls(certificate);
    let serving = tokio::spawn(serving.into_future());

    for (config, is_known) in [(trusted, true), (Config::new(), false)] {
        let edge = Edge::new(config, []);
        let text = format!(
            "[routes.a]\npublic = true\n[routes.a.upstream]\n\
             registry = {{ url = \"https://localhost:{port}\", service = \"orders\" }}\n"
        );
        edge.proxy.handle().apply(&toml(&text)).unwrap();
        let upstream = edge.proxy.handle().upstream("a").unwrap();
        let asked = async {
            loop {
                let stats = upstream.handle().stats().resolver;
                if let Some(stats) = stats.filter(|stats| stats.known || stats.failing > 0) {
                    return stats.known;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(in_time(asked).await, is_known);
    }
    serving.abort();
}
