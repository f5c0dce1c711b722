//! The HTTP services.

use std::time::Duration;

use buttress_http::{HealthDetailsService, HealthService, health_details_service, health_service};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use super::*;

async fn ask<S>(service: &S, method: Method, path: &str) -> Response<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = std::convert::Infallible> + Clone,
{
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    service.clone().oneshot(request).await.unwrap()
}

async fn get<S>(service: &S, path: &str) -> (u16, Value)
where
    S: Service<Request<()>, Response = Response<String>, Error = std::convert::Infallible> + Clone,
{
    let response = ask(service, Method::GET, path).await;
    (response.status().as_u16(), serde_json::from_str(response.body()).unwrap())
}

fn both(health: &Health) -> (HealthService, HealthDetailsService) {
    (health_service(health.clone()), health_details_service(health.clone()))
}

fn status(word: &str) -> Value {
    json!({ "status": word })
}

fn service(word: &str) -> Value {
    json!({ "status": word, "name": "orders", "version": "1.4.0" })
}

#[tokio::test(start_paused = true)]
async fn edge_7_1_before_the_first_result_the_service_is_not_ready() {
    let (public, private) = both(&critical(orders(), fine));
    assert_eq!(get(&public, "/health").await, (200, service("DEGRADED")));
    assert_eq!(get(&public, "/ready").await, (503, status("UNKNOWN")));
    assert_eq!(get(&public, "/startup").await, (503, status("DOWN")));
    assert_eq!(get(&public, "/live").await, (200, status("UP")));
    assert_eq!(get(&public, "/health/details").await.0, 404);
    assert_eq!(get(&private, "/health/details").await.0, 200);
    assert_eq!(get(&private, "/health").await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn edge_7_2_each_status_has_its_code_and_its_word() {
    let cases = [
        (Finding::up(), 200, "UP", 200, "UP"),
        (Finding::degraded("slow"), 200, "DEGRADED", 200, "UP"),
        (Finding::down("gone"), 503, "DOWN", 503, "DOWN"),
        (Finding::unknown("no rights"), 200, "DEGRADED", 503, "UNKNOWN"),
    ];
    for (finding, code, word, ready_code, ready) in cases {
        let health = critical(orders(), move || std::future::ready(finding.clone()));
        let (public, private) = both(&health);
        let start = now();
        let _running = health.spawn();
        until(start, 0).await;
        assert_eq!(get(&public, "/health").await, (code, service(word)));
        assert_eq!(get(&public, "/ready?from=kubelet").await, (ready_code, status(ready)));
        let (own, details) = get(&private, "/health/details").await;
        assert_eq!((own, &details["status"]), (code, &json!(word)));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_7_5_a_thousand_probes_a_second_run_each_check_once_an_interval() {
    let (db, disk) = (Runs::default(), Runs::default());
    let health = critical(orders(), db.check()).check("disk", Importance::High, disk.check());
    let health = health.unwrap();
    let (public, private) = both(&health);
    let start = now();
    let _running = health.spawn();
    until(start, 0).await;
    for _ in 0..65_000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&public, Method::GET, "/ready").await.status(), StatusCode::OK);
        assert_eq!(ask(&private, Method::GET, "/health/details").await.status(), StatusCode::OK);
    }
    assert_eq!((db.count(), disk.count()), (7, 7), "from 0 to 60 seconds, both included");
}

#[tokio::test(start_paused = true)]
async fn edge_7_6_startup_is_503_until_the_checks_passed_and_200_forever_after() {
    let runs = Runs::default();
    let (counted, seen) = (runs.check(), runs.clone());
    // Fails, then passes once, then fails.
    let health = critical(orders(), move || {
        let counted = counted();
        let is_second = seen.count() == 2;
        async move {
            counted.await?;
            if is_second { Ok(()) } else { Err(String::from("refused")) }
        }
    });
    let (public, _) = both(&health);
    let start = now();
    let _running = health.spawn();
    until(start, 9).await;
    assert_eq!(get(&public, "/startup").await, (503, status("DOWN")));
    until(start, 300).await;
    assert_eq!(get(&public, "/startup").await, (200, status("UP")));
    assert_eq!(get(&public, "/ready").await, (503, status("DOWN")));
}

#[tokio::test(start_paused = true)]
async fn edge_7_7_a_drain_is_503_for_readiness_and_200_for_liveness() {
    let health = critical(orders(), fine);
    let (public, private) = both(&health);
    let start = now();
    let _running = health.spawn();
    until(start, 0).await;
    assert_eq!(get(&public, "/ready").await, (200, status("UP")));
    health.drain();
    assert_eq!(get(&public, "/ready").await, (503, status("DOWN")));
    assert_eq!(get(&public, "/live").await, (200, status("UP")));
    assert_eq!(get(&public, "/startup").await.0, 200);
    assert_eq!(get(&public, "/health").await, (200, service("UP")));
    assert_eq!(get(&private, "/health/details").await.1["draining"], json!(true));
}

#[tokio::test(start_paused = true)]
async fn edge_7_9_only_the_details_have_checks_and_their_texts() {
    let secret = "postgres://shop:hunter2@10.0.0.7/orders: \"refused\"\u{7}\n";
    let health = Health::new("or\"ders\\", "1.4.0\u{1}")
        .check("ledger \"eu\"", Importance::Critical, move || {
            std::future::ready(Err::<(), _>(secret))
        })
        .and_then(|it| it.check("warehouse", Importance::Low, fine))
        .unwrap();
    let (public, private) = both(&health);
    let start = now();
    let _running = health.spawn();
    until(start, 3).await;
    for path in ["/health", "/ready", "/live", "/startup", "/other", "/health/details"] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let response = ask(&public, method, path).await;
            let all = format!("{response:?}");
            for part in ["hunter2", "10.0.0.7", "refused", "ledger", "warehouse"] {
                assert!(!all.contains(part), "{path}: {all}");
            }
        }
    }
    let expected = json!({
        "status": "DOWN", "name": "or\"ders\\", "version": "1.4.0\u{1}",
        "live": "UP", "ready": "DOWN", "startup": "DOWN", "draining": false,
        "checks": [
            {
                "name": "ledger \"eu\"", "importance": "critical", "groups": ["ready", "startup"],
                "status": "DOWN", "text": secret, "age_ms": 3000, "took_ms": 0
            },
            {
                "name": "warehouse", "importance": "low", "groups": ["ready"],
                "status": "UP", "age_ms": 3000, "took_ms": 0
            }
        ]
    });
    assert_eq!(get(&private, "/health/details").await, (503, expected));
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405() {
    let (public, private) = both(&Health::new("orders", ""));
    for path in ["/", "/health/", "//health", "/Health", "/healthz", "/live/x", "/metrics"] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(ask(&public, method, path).await.status(), 404, "{path}");
        }
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
        let refused = ask(&public, method.clone(), "/live").await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["allow"]),
            (405, &"GET, HEAD".parse().unwrap())
        );
        assert_eq!(ask(&private, method, "/health/details").await.status(), 405);
    }
    assert_eq!(get(&public, "/health").await.1, json!({ "status": "UP", "name": "orders" }));
}

#[tokio::test]
async fn head_is_get_without_its_body_and_nothing_is_cached() {
    let (public, private) = both(&critical(orders(), fine));
    let asked = ["/health", "/ready", "/live", "/startup", "/other"];
    for path in asked {
        let (got, head) =
            (ask(&public, Method::GET, path).await, ask(&public, Method::HEAD, path).await);
        assert_eq!(head.status(), got.status());
        assert!(head.body().is_empty() && !got.body().is_empty());
        assert_eq!(head.headers()["content-length"], got.body().len().to_string());
        for response in [got, head] {
            assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
            assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        }
    }
    let details = ask(&private, Method::GET, "/health/details").await;
    assert_eq!(details.headers()["cache-control"], "no-store");
    assert_eq!(ask(&private, Method::POST, "/x").await.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn axum_serves_both() {
    let health = critical(orders(), fine);
    let (public, private) = both(&health);
    let app = axum::Router::new()
        .route_service("/health/details", private)
        .nest_service("/probes", public.clone())
        .fallback_service(public);
    let code = async |path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!((code("/live").await, code("/ready").await), (200, 503));
    assert_eq!((code("/probes/live").await, code("/health/details").await), (200, 200));
    assert_eq!(code("/nothing").await, 404);
}
