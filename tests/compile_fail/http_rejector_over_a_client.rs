use buttress::rate_limit::RateLimitLayer;
use buttress_http::HttpLayerExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::{BoxError, ServiceBuilder, util::BoxCloneService};

type Client = BoxCloneService<Request<String>, Response<Incoming>, BoxError>;

fn main() {
    let _stack = ServiceBuilder::new()
        .layer(RateLimitLayer::default().http())
        .check_service::<Client, Request<String>, Response<Incoming>, BoxError>();
}
