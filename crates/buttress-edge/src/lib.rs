//! The HTTP edge of [`buttress`]: a gateway in front of services, as a library.
//!
//! A [`Proxy`] is a tower service. It checks each request, finds its [`Route`] by host, path prefix
//! and method, and forwards it to a backend of the route's [`Upstream`]. A
//! [balancer](buttress::balance) chooses the backend. Bodies stream in both directions. A route can also go to a
//! [service](Route::to_service) of the process.
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
//! The page [`guide::gateway`] has a whole program with tokens and limits.
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
//! | a transfer coding other than `chunked` | 400 |
//! | credentials are missing or invalid, do not suffice, or cannot be checked | 401 with `WWW-Authenticate`, 403, 503 with `Retry-After` |
//! | a body longer than the route allows | 413 |
//! | a body that does not arrive | 408 |
//! | `Via` already has the proxy's name five times: the sixth pass | 508 |
//! | the rate of the route or of the client is exceeded | 429 with `Retry-After` |
//! | no permit is free, the circuit is open, or too many clients are known | 503 with `Retry-After` |
//! | the listener drains | 503 with `Retry-After` |
//! | no file descriptor is free for a connection to a backend | 503 with `Retry-After` |
//! | no backend takes the request within 1 second, e.g. because none is known | 503 with `Retry-After` |
//! | the backend cannot be reached, closes the connection, or answers invalidly | 502 |
//! | the backend does not accept the connection, or does not answer, in time | 504 |
//! | the service of the route fails | 502, or the status of its refusal |
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
//! Everything else is sent once, unless [`Route::retry`] says otherwise.
//!
//! # Header fields
//!
//! The fields of one connection are removed in both directions: `Connection` and the fields that it names,
//! `Keep-Alive`, `Proxy`, `Proxy-*`, `TE`, `Transfer-Encoding` and `Upgrade`. `Connection` cannot name the fields about
//! the client, the fields of the context, and `Via`. The proxy sets its own fields after that. A name in which any
//! other byte stands for a `-` counts as the same name, because CGI reads it so. The proxy removes the same names from
//! the trailers of a request as from its fields. `Via` is added. The proxy sets `X-Forwarded-For`, `X-Forwarded-Proto`
//! and `X-Forwarded-Host`. It drops the values of a client unless [`Config::trust`] names its network. `Host` is the
//! backend's.
//!
//! `Authorization` and other credentials stay in the proxy unless [`Route::forward_credentials`] says otherwise. The
//! fields of [`Route::forward_identity`] come from the proxy only, on every route.
//!
//! # Context
//!
//! A [`ContextLayer::server`](buttress_http::context::ContextLayer::server) around the proxy reads the context of each
//! request. The proxy forwards the request in this context: the deadline ends all attempts, and each attempt sends the
//! backend the remaining time, the correlation id, the priority, and its own parent in the trace. The
//! admission of a route sets the identity.
//!
//! With this layer the proxy removes the fields of [`buttress_http::context`] that a client has sent. Without it the proxy
//! passes the fields on unchanged if [`Config::trust`] believes the peer. It removes the fields of all other peers. So
//! a backend can believe the proxy with [`Trust::gateways`](buttress_http::context::Trust::gateways).
//!
//! Informational answers of a backend (1xx) are dropped, except 101.
//!
//! # Upgrades
//!
//! A GET of HTTP/1.1 with `Upgrade` passes, e.g. for a WebSocket, if the backends speak HTTP/1.1. After a 101 the proxy
//! copies bytes in both directions. [`Config::idle_limit`] ends a tunnel in which neither side sends. No other limit of
//! the proxy applies to it. A tunnel holds the permit of its route, and is in flight, until both sides have closed. The
//! end of the drain closes it. Its place of the listener is taken until then.
//!
//! An upgrade to another version of HTTP or to TLS is forwarded as an ordinary request: the requests inside would reach
//! the backend without the checks of the routes. WebSockets over HTTP/2 (RFC 8441) are answered with 405.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
#[cfg(any(feature = "jwt", feature = "api-keys"))]
mod admit;
mod answer;
mod body;
mod caller;
mod caught;
pub mod client;
mod config;
mod descriptors;
pub mod discover;
#[cfg(feature = "document")]
mod document;
mod exchange;
mod forward;
#[cfg(test)]
mod fuzz;
pub mod guide;
mod headers;
mod host;
mod notice;
mod numbers;
mod path;
mod patience;
mod proxy;
mod race;
mod route;
mod route_limits;
mod serve;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
mod tunnel;
mod upstream;

pub use admission::{Admission, Admit, Denied, DeniedKind};
#[cfg(feature = "api-keys")]
pub use admit::api_keys::{ApiKey, ApiKeys, ApiKeysHandle};
#[cfg(feature = "jwt")]
pub use admit::jwt::{FetchKeys, Fetching, Jwt};
pub use body::{Body, Held, Idle};
pub use caller::{ClientKey, InvalidSubject, Subject};
pub use config::Config;
#[cfg(feature = "document")]
#[cfg_attr(docsrs, doc(cfg(feature = "document")))]
pub use document::{Document, Secret, SecretError};
pub use numbers::{BackendStats, RefusedStats, RouteStats};
pub use proxy::{Handle, Proxy, Ready, Replaced};
pub use route::{LocalService, Route, RouteShadow, RouteSplit, ShadowMismatches};
pub use serve::{Serve, Served, serve};
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use tls::{Certificate, Roots};
pub use upstream::Upstream;
