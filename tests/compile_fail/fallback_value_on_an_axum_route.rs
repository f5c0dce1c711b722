use std::convert::Infallible;

use axum::{body::Body, http::Request, response::Response};
use buttress::fallback::FallbackLayer;
use tower::{ServiceBuilder, util::BoxCloneService};

type Route = BoxCloneService<Request<Body>, Response, Infallible>;

fn main() {
    let answer = Response::new(Body::from("later"));
    let _stack = ServiceBuilder::new()
        .layer(FallbackLayer::value(answer))
        .check_service::<Route, Request<Body>, Response, Infallible>();
}
