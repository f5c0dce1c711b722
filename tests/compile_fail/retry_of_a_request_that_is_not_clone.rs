use buttress::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder, util::BoxCloneService};

struct Upload;

type Client = BoxCloneService<Upload, u32, BoxError>;

fn main() {
    let _stack = ServiceBuilder::new()
        .layer(RetryLayer::default())
        .check_service::<Client, Upload, u32, BoxError>();
}
