//! An aggregate as a route.

use std::time::Duration;

use buttress::aggregate::{Aggregate, Config as Rules, Missing};
use buttress::{CircuitState, Clock, circuit_breaker};
use buttress_http::aggregate::respond;
use http::Request;
use tower::{BoxError, ServiceExt, service_fn};

use super::{ask, edge, stats};
use crate::tests::support::{Edge, field, get, status};
use crate::{Body, Route, RouteStats};

/// The behaviour of a part.
#[derive(Clone, Copy, Debug)]
enum Part {
    Answers(u64),
    Fails(u64),
    Panics,
    Hangs,
}

impl Part {
    async fn run(self, name: &'static str) -> Result<String, BoxError> {
        let sleep = |millis| Clock::default().sleep(Duration::from_millis(millis));
        match self {
            Self::Answers(after) => {
                sleep(after).await;
                Ok(format!("\"{name}\""))
            }
            Self::Fails(after) => {
                sleep(after).await;
                Err("down".into())
            }
            Self::Panics => panic!("on purpose"),
            Self::Hangs => std::future::pending().await,
        }
    }
}

/// A page of an order, which is required, and two optional parts.
fn page(order: Part, payment: Part, stock: Part) -> Route {
    let page = Aggregate::builder()
        .required("order", service_fn(move |_: u32| order.run("order")))
        .optional("payment", service_fn(move |_: u32| payment.run("payment")))
        .optional("stock", service_fn(move |_: u32| stock.run("stock")))
        .config(Rules::new().within(Duration::from_millis(800)))
        .build()
        .unwrap();
    let service = service_fn(move |request: Request<Body>| {
        let page = page.clone();
        async move {
            let id: u32 = request.uri().path().trim_start_matches('/').parse()?;
            let parts = page.oneshot(id).await?;
            Ok::<_, BoxError>(respond(parts, |(order, payment, stock), partial| {
                let text = |part: Result<String, Missing<BoxError>>| {
                    part.unwrap_or_else(|_| "null".to_owned())
                };
                let (payment, stock) = (text(payment), text(stock));
                Body::from(format!(
                    r#"{{"order":{order},"payment":{payment},"stock":{stock},"partial":{partial}}}"#
                ))
            }))
        }
    });
    Route::new("page").prefix("/pages").strip("/pages").to_service(service).public()
}

/// The head and the body of the page, and the milliseconds that it took.
async fn shown(edge: &Edge) -> (String, String, u128) {
    let start = Clock::default().now();
    let (head, body) = edge.open().exchange(get("/pages/7")).await;
    (head, body, (Clock::default().now() - start).as_millis())
}

#[tokio::test(start_paused = true)]
async fn edge_4_1_the_parts_of_a_route_run_at_once_and_stand_in_their_order() {
    let edge = edge(page(Part::Answers(300), Part::Answers(200), Part::Answers(100)));
    let (head, body, took) = shown(&edge).await;
    assert_eq!((status(&head), took), (200, 300));
    assert_eq!(body, r#"{"order":"order","payment":"payment","stock":"stock","partial":[]}"#);
    assert_eq!((field(&head, "x-partial"), field(&head, "cache-control")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn edge_4_2_a_required_part_that_fails_is_502_immediately_and_opens_the_circuit() {
    let config = circuit_breaker::Config::new().consecutive_failures(2);
    let circuit = circuit_breaker::CircuitBreakerLayer::new(config).unwrap().handle();
    let route = page(Part::Fails(10), Part::Hangs, Part::Answers(5));
    let edge = edge(route.circuit_breaker(circuit.clone()));
    for _ in 0..2 {
        let (head, body, took) = shown(&edge).await;
        assert_eq!((status(&head), took), (502, 10));
        assert!(!body.contains("down"), "{body}");
    }
    assert_eq!(circuit.state(), CircuitState::Open);
    assert_eq!(ask(&edge, &get("/pages/7")).await.0, 503);
    assert_eq!((stats(&edge).failed, stats(&edge).refused.circuit_open), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn edge_4_3_and_4_6_a_route_states_which_optional_parts_are_missing() {
    for (payment, stock, partial, took) in [
        (Part::Fails(10), Part::Answers(0), "payment", 20),
        (Part::Panics, Part::Answers(0), "payment", 20),
        (Part::Answers(0), Part::Hangs, "stock", 800),
        (Part::Fails(0), Part::Hangs, "payment, stock", 800),
    ] {
        let edge = edge(page(Part::Answers(20), payment, stock));
        let (head, body, found) = shown(&edge).await;
        // Never 206.
        assert_eq!((status(&head), found), (200, took), "{payment:?} {stock:?}");
        assert_eq!(field(&head, "x-partial"), Some(partial));
        assert_eq!(field(&head, "cache-control"), Some("no-store"));
        let names = partial.split(", ").map(|name| format!("\"{name}\""));
        let list = format!(r#""partial":[{}]"#, names.collect::<Vec<_>>().join(","));
        assert!(body.contains(&list) && body.contains("null"), "{body}");
        let expected = RouteStats { begun: 1, answered: 1, ..RouteStats::default() };
        assert_eq!(stats(&edge), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_4_a_required_part_that_is_open_at_the_limit_is_504() {
    for (limit, took) in [(None, 800), (Some(Duration::from_millis(300)), 300)] {
        let route = page(Part::Hangs, Part::Answers(0), Part::Answers(0));
        // The time limit of the route is the deadline of the aggregate.
        let edge = edge(match limit {
            None => route,
            Some(limit) => route.time_limit(limit),
        });
        let (head, body, found) = shown(&edge).await;
        assert_eq!((status(&head), found), (504, took));
        assert!(body.contains(r#""kind":"timed-out""#), "{body}");
        assert_eq!(stats(&edge).failed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_response_of_the_helper_passes_with_other_bodies() {
    let service = service_fn(async |_: Request<Body>| {
        let part = service_fn(async |(): ()| Ok::<_, BoxError>("x"));
        let parts = Aggregate::builder().required("a", part).build()?.oneshot(()).await?;
        Ok::<_, BoxError>(respond(parts, |(a,), _| http_body_util::Full::from(a)))
    });
    let edge = edge(Route::new("page").to_service(service).public());
    assert_eq!(ask(&edge, &get("/")).await, (200, "x".into()));
}
