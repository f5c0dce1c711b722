use buttress::circuit_breaker::CircuitBreakerLayer;
use tower::{ServiceBuilder, util::BoxCloneService};

struct MyError;

impl From<buttress::Error> for MyError {
    fn from(_: buttress::Error) -> Self {
        MyError
    }
}

type Client = BoxCloneService<u32, u32, MyError>;

fn main() {
    let _stack = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::default())
        .check_service::<Client, u32, u32, MyError>();
}
