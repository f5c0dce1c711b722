//! Pages on the gateway, the client, the sources of backends, and a sidecar.

#[cfg_attr(feature = "jwt", doc = include_str!("gateway.md"))]
#[cfg_attr(
    not(feature = "jwt"),
    doc = "A gateway with bearer tokens. The feature `jwt` adds this page."
)]
pub mod gateway {}

#[cfg_attr(feature = "json", doc = include_str!("client.md"))]
#[cfg_attr(
    not(feature = "json"),
    doc = "A client of one service. The feature `json` adds this page."
)]
pub mod client {}

#[cfg_attr(feature = "registry", doc = include_str!("discovery.md"))]
#[cfg_attr(
    not(feature = "registry"),
    doc = "Where backends come from. The feature `registry` adds this page."
)]
pub mod discovery {}

#[doc = include_str!("sidecar.md")]
pub mod sidecar {}

#[doc = include_str!("strangler.md")]
pub mod strangler {}
