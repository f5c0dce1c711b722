//! The context of a request over HTTP: its fields become a [`Context`](buttress::context::Context), and a context becomes
//! fields.
//!
//! | field | what it carries | who is believed |
//! |---|---|---|
//! | `x-correlation-id`, or `x-request-id` | the correlation id: 1 to 128 bytes of `A-Za-z0-9._:-` | trusted callers; for all others the server makes an id |
//! | `traceparent`, `tracestate` | the trace, as in W3C Trace Context | trusted callers; for all others the server begins a trace |
//! | `x-request-timeout-ms`, `grpc-timeout` | how long the caller waits, from the arrival on | trusted callers |
//! | `x-request-priority` | 0, the most important, to 4 | trusted callers; from all others it is removed and counted |
//!
//! A field of a trusted caller that is malformed, or occurs twice, is ignored and counted. A time is relative, so the two
//! sides need no common clock. The server answers a request whose time is 0 with 504 and does not call the service.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use std::time::Duration;
//! use buttress_http::context::{ContextLayer, Trust};
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! // The client of another service. It returns the fields that it would send.
//! let client = ServiceBuilder::new()
//!     .layer(ContextLayer::client())
//!     .service_fn(async |request: Request<()>| Ok::<_, Infallible>(request.headers().clone()));
//!
//! let route = ServiceBuilder::new().layer(ContextLayer::server(Trust::All)).service_fn(move |_: Request<()>| {
//!     let client = client.clone();
//!     async move {
//!         tokio::time::sleep(Duration::from_millis(300)).await;
//!         let sent = client.oneshot(Request::new(())).await?;
//!         let sent = ["x-correlation-id", "x-request-timeout-ms"].map(|name| sent[name].to_str().unwrap_or("").to_owned());
//!         Ok::<_, Infallible>(Response::new(sent.join(" ")))
//!     }
//! });
//!
//! let request = Request::get("/").header("x-correlation-id", "order-7").header("x-request-timeout-ms", "1000");
//! let response = route.oneshot(request.body(())?).await?;
//! assert_eq!(response.body(), "order-7 700");
//! assert_eq!(response.headers()["x-correlation-id"], "order-7");
//! # Ok(())
//! # }
//! ```

mod client;
mod headers;
mod server;
mod trust;

#[cfg(test)]
mod tests;

pub use client::{ClientContext, ClientContextLayer, Trace};
pub use server::{ContextStats, ServerContext, ServerContextFuture, ServerContextLayer};
pub use trust::{Decide, Trust};

/// Returns the time of a valid `grpc-timeout`.
pub(crate) fn grpc_timeout(headers: &http::HeaderMap) -> Option<std::time::Duration> {
    headers::grpc_timeout(headers).ok()
}

/// The constructors of the layers that carry a context over HTTP.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ContextLayer;

impl ContextLayer {
    /// Returns the layer of a server: the fields of a request become its context, and the response gets
    /// `x-correlation-id`.
    ///
    /// Put it outside of all other layers of buttress, so that they see the deadline. The span of the request, "request"
    /// at INFO, has the fields `correlation_id` and `trace_id`.
    pub fn server(trust: Trust) -> ServerContextLayer {
        ServerContextLayer::new(trust)
    }

    /// Returns the layer of a client: each request gets the fields of the current context. A request outside of every
    /// context is sent unchanged.
    pub fn client() -> ClientContextLayer {
        ClientContextLayer::new()
    }
}
