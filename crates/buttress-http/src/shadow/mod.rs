//! The HTTP parts of a [`Shadow`](buttress::shadow::Shadow): which requests are mirrored, and how responses are
//! compared.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use buttress::shadow::{Config, Shadow};
//! use buttress_http::shadow::{CompareResponses, DigestBodyLayer, SafeRequests};
//! use buttress_http::split::ByResponse;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! type Body = Full<bytes::Bytes>;
//! let primary = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("3 orders"))));
//! let mirror = service_fn(async |request: Request<Body>| {
//!     assert_eq!(request.headers()["x-shadow"], "1");
//!     Ok::<_, Infallible>(Response::new(Body::from("2 orders")))
//! });
//!
//! let digests = DigestBodyLayer;
//! let orders = Shadow::new(digests.layer(primary), digests.layer(mirror), SafeRequests, Config::new().share(1.0))?
//!     .judge(ByResponse::new())
//!     .compare(CompareResponses::new());
//! let operator = orders.handle();
//!
//! let response = orders.oneshot(Request::get("/orders").body(Body::default())?).await?;
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "3 orders");
//! while operator.stats().running > 0 {
//!     tokio::task::yield_now().await;
//! }
//! assert_eq!(operator.stats().different, 1);
//! # Ok(())
//! # }
//! ```

mod compare;
mod digest;
mod safe;

pub use compare::CompareResponses;
pub use digest::{DigestBody, DigestBodyFuture, DigestBodyLayer, DigestBodyService};
pub use safe::{SafeRequests, X_SHADOW};

#[cfg(test)]
mod tests;
