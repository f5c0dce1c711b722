use buttress::fallback::FallbackLayer;
use tower::{BoxError, ServiceBuilder, util::BoxCloneService};

struct Stream;

type Client = BoxCloneService<u32, Stream, BoxError>;

fn main() {
    let _stack = ServiceBuilder::new()
        .layer(FallbackLayer::value(Stream))
        .check_service::<Client, u32, Stream, BoxError>();
}
