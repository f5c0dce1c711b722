use buttress::bulkhead::BulkheadLayer;
use tower::{BoxError, ServiceBuilder, util::BoxService};

type Connection = BoxService<u32, u32, BoxError>;

fn main() {
    let _stack = ServiceBuilder::new()
        .layer(BulkheadLayer::default().queued())
        .check_service::<Connection, u32, u32, BoxError>();
}
