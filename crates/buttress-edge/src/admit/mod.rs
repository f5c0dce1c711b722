//! Ready-made [`Admit`](crate::Admit)s: bearer tokens and API keys.

#[cfg(feature = "api-keys")]
pub(crate) mod api_keys;
mod credentials;
#[cfg(feature = "jwt")]
pub(crate) mod jwt;
