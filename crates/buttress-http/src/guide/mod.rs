//! Pages on the services that the layers wrap.

#[doc = include_str!("clients.md")]
#[cfg_attr(feature = "reqwest", doc = include_str!("reqwest.md"))]
#[cfg_attr(not(feature = "reqwest"), doc = "# reqwest\n\nThe feature `reqwest` adds this part.")]
pub mod clients {}

#[doc = include_str!("tonic.md")]
pub mod tonic {}

#[doc = include_str!("streaming.md")]
pub mod streaming {}

#[doc = include_str!("service.md")]
pub mod service {}
