use buttress::bulkhead::BulkheadLayer;
use tower::{ServiceBuilder, util::BoxCloneService};

type Client = BoxCloneService<u32, u32, std::io::Error>;

fn main() {
    let _stack = ServiceBuilder::new()
        .layer(BulkheadLayer::default())
        .check_service::<Client, u32, u32, std::io::Error>();
}
