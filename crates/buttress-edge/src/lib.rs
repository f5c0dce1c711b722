//! The HTTP edge of [`buttress`]: a gateway in front of services, as a library.
//!
//! A [`Proxy`] is a tower service. It checks each request, finds its [`Route`] by host, path prefix
//! and method, and forwards it to a backend of the route's [`Upstream`]. A
//! [balancer](buttress::balance) chooses the backend. Bodies stream in both directions.
//!
//! ```no_run
//! use buttress_edge::{Config, Proxy, Route, Upstream};
//! use http::Method;
//!
//! # fn main() -> Result<(), buttress::InvalidConfig> {
//! let orders = Route::new("orders")
//!     .host("shop.example")
//!     .prefix("/api/orders")
//!     .methods([Method::GET, Method::POST])
//!     .strip("/api")
//!     .to(Upstream::fixed(["http://10.0.0.1:8001", "http://10.0.0.2:8001"])?)
//!     .public();
//! let gateway = Proxy::new(Config::new(), [orders])?;
//! # let _ = gateway;
//! # Ok(())
//! # }
//! ```
//!
//! [`serve`] accepts connections for it. It also works as the fallback of an axum router.
//!
//! # Refused requests
//!
//! | request | answer |
//! |---|---|
//! | no route matches host and path | 404 |
//! | no matching route has the method; `CONNECT` and `TRACE` | 405 with `Allow` |
//! | a path with dot segments, empty segments, encoded slashes or backslashes, path parameters, double encoding, or bytes that must be encoded | 400 |
//! | no host, two `Host` fields, or an invalid host | 400 |
//! | a body longer than the route allows | 413 |
//! | a body that does not arrive | 408 |
//! | `Via` already has the proxy's name five times: the sixth pass | 508 |
//! | the rate of the route or of the client is exceeded | 429 with `Retry-After` |
//! | no permit is free, the circuit is open, or too many clients are known | 503 with `Retry-After` |
//! | the listener drains | 503 with `Retry-After` |
//! | no backend takes the request within 1 second, e.g. because none is known | 503 with `Retry-After` |
//! | the backend cannot be reached, closes the connection, or answers invalidly | 502 |
//! | the backend does not accept the connection, or does not answer, in time | 504 |
//!
//! The answer is a problem document, or a gRPC status for a request whose `Content-Type` begins with
//! `application/grpc`.
//!
//! A path is never repaired. It is refused if two parsers could read it differently, and forwarded byte
//! for byte otherwise.
//!
//! # Repeated requests
//!
//! - A request whose connection failed goes to another backend, once, whatever its method. Nothing
//!   of it was sent.
//! - A GET or HEAD without a body that met a closed HTTP/1.1 connection of the pool is sent once
//!   more, on a new connection.
//!
//! Everything else is sent once.
//!
//! # Header fields
//!
//! The fields of one connection are removed in both directions: `Connection` and the fields that it
//! names, `Keep-Alive`, `Proxy-*`, `TE`, `Transfer-Encoding` and `Upgrade`. The proxy sets its own
//! fields after that. `Via` is added. `X-Forwarded-For`, `X-Forwarded-Proto` and
//! `X-Forwarded-Host` are set; what a client sent of them is dropped unless [`Config::trust`] says
//! otherwise. `Host` is the backend's.
//!
//! The proxy passes the fields of [`buttress_http::context`] on unchanged. A backend must not believe the proxy
//! with [`Trust::gateways`](buttress_http::context::Trust::gateways): the deadline of a client would then be the
//! backend's.
//!
//! Informational answers of a backend (1xx) are dropped. Upgrades are not supported.

mod answer;
mod body;
mod config;
mod forward;
mod headers;
mod host;
mod limits;
mod numbers;
mod path;
mod proxy;
mod race;
mod route;
mod serve;
#[cfg(test)]
mod tests;
mod upstream;

pub use body::{Body, Held, Idle};
pub use config::Config;
pub use numbers::{BackendStats, RouteStats};
pub use proxy::Proxy;
pub use route::Route;
pub use serve::{Serve, Served, serve};
pub use upstream::Upstream;
