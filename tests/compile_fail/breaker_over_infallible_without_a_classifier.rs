use std::convert::Infallible;

use buttress::circuit_breaker::CircuitBreakerLayer;
use tower::{ServiceBuilder, util::BoxCloneService};

type Route = BoxCloneService<u32, u16, Infallible>;

fn main() {
    let layer = CircuitBreakerLayer::default().reject(buttress::as_response(|_| 503));
    let _stack = ServiceBuilder::new()
        .layer(layer)
        .check_service::<Route, u32, u16, Infallible>();
}
