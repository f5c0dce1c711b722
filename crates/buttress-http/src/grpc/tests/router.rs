//! One axum router for HTTP and gRPC.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use buttress::{ErrorKind, rate_limit};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower::{ServiceBuilder, ServiceExt};

use super::Shop;
use crate::context::{ContextLayer, Trust};
use crate::grpc::ByContentTypeLayer;
use crate::{HttpLayerExt, RateLimitFieldsLayer, Refusal, Respond};

fn request(content_type: Option<&str>, path: &str) -> Request<Body> {
    let mut request = Request::post(path);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    request.body(Body::from(&b"\0\0\0\0\x04\x0a\x02ok"[..])).unwrap()
}

fn text<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("-", |value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_router_answers_http_in_http_and_grpc_in_grpc() {
    let limiter = rate_limit::Config::new().max_tokens(2).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(ByContentTypeLayer)
        .layer(ContextLayer::server(Trust::All))
        .layer(RateLimitFieldsLayer::new(limiter.handle()))
        .layer(limiter.http());
    let grpc = Routes::new(HealthServer::new(Shop::default())).into_axum_router();
    let router: Router =
        grpc.route("/plain", get(async || "plain").post(async || "plain")).layer(stack);
    let call = async |request| router.clone().oneshot(request).await.unwrap();
    let check = "/grpc.health.v1.Health/Check";

    let plain = call(request(None, "/plain")).await;
    assert_eq!((plain.status(), text(&plain, "grpc-status")), (StatusCode::OK, "-"));
    let answered = call(request(Some("application/grpc"), check)).await;
    assert_eq!((answered.status(), text(&answered, "grpc-status")), (StatusCode::OK, "-"));
    assert!(Refusal::of(&answered).is_none());
    let answer = answered.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");

    // The tokens are used up.
    for content_type in [None, Some("application/json"), Some("application/grp")] {
        let refused = call(request(content_type, "/plain")).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(text(&refused, "content-type"), "application/problem+json");
        assert_eq!(text(&refused, "grpc-status"), "-");
    }
    // A GET with the content type is not gRPC: a cache could keep its 200.
    let mut get = request(Some("application/grpc"), "/plain");
    *get.method_mut() = http::Method::GET;
    let refused = call(get).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((text(&refused, "grpc-status"), text(&refused, "cache-control")), ("-", "no-store"));
    for content_type in ["application/grpc", "application/grpc+proto", "Application/GRPC"] {
        let refused = call(request(Some(content_type), check)).await;
        assert_eq!(refused.status(), StatusCode::OK);
        assert_eq!(text(&refused, "content-type"), "application/grpc");
        assert_eq!(text(&refused, "cache-control"), "no-store");
        assert_eq!(text(&refused, "grpc-status"), "8");
        assert_eq!(text(&refused, "grpc-message"), "too many requests");
        assert_ne!(text(&refused, "grpc-retry-pushback-ms"), "-");
        // Fields that are not of the body stay.
        assert_eq!(text(&refused, "x-correlation-id").len(), 32);
        assert!(text(&refused, "ratelimit").contains("r=0"));
        let kind = Refusal::of(&refused).map(|refusal| refusal.error().kind());
        assert_eq!(kind, Some(ErrorKind::RateLimited));
        assert!(refused.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

/// The deadline of a request is checked outside of the limits, and its answer is translated too.
#[tokio::test(start_paused = true)]
async fn a_passed_deadline_is_answered_in_the_language_of_the_request() {
    let route = ServiceBuilder::new()
        .layer(ByContentTypeLayer)
        .layer(ContextLayer::server(Trust::All))
        .service_fn(async |_: Request<Body>| Ok::<_, tower::BoxError>(Response::<Body>::default()));
    let late = |content_type: Option<&str>| {
        let mut request = request(content_type, "/");
        request.headers_mut().insert("grpc-timeout", "0m".parse().unwrap());
        request
    };
    let plain = route.clone().oneshot(late(None)).await.unwrap();
    assert_eq!(plain.status(), StatusCode::GATEWAY_TIMEOUT);
    let grpc = route.oneshot(late(Some("application/grpc"))).await.unwrap();
    assert_eq!((grpc.status(), text(&grpc, "grpc-status")), (StatusCode::OK, "4"));
}

#[tokio::test(start_paused = true)]
async fn the_fields_of_the_replaced_body_do_not_stay_and_other_answers_do() {
    let limiter = rate_limit::Config::new().max_tokens(1).build().unwrap();
    let own = Respond::with(|error| {
        let mut response: Response<Body> = Respond.response(error);
        for (name, value) in
            [("content-length", "7"), ("content-encoding", "gzip"), ("server", "s")]
        {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    });
    let route = ServiceBuilder::new()
        .layer(ByContentTypeLayer)
        .layer(limiter.reject(own))
        .service_fn(async |_: Request<Body>| {
            let mut unwell = Response::new(Body::from("unwell"));
            *unwell.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, tower::BoxError>(unwell)
        });
    let call =
        async || route.clone().oneshot(request(Some("application/grpc"), "/")).await.unwrap();
    assert_eq!(call().await.status(), StatusCode::SERVICE_UNAVAILABLE, "the service's own answer");
    let refused = call().await;
    assert_eq!((refused.status(), text(&refused, "server")), (StatusCode::OK, "s"));
    assert_eq!([text(&refused, "content-length"), text(&refused, "content-encoding")], ["-", "-"]);
}
