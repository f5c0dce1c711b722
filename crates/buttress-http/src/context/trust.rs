//! [`Trust`]: whose fields are believed.

use std::fmt;
use std::sync::Arc;

use buttress::InvalidConfig;
use http::Extensions;

use crate::client_key::{Network, PeerAddr};

/// Decides whose context fields a [`ContextLayer::server`](super::ContextLayer::server) believes.
///
/// A caller that is trusted chooses the correlation id in your logs, the trace, the priority, and a deadline. A short
/// deadline makes calls time out, and timeouts open circuits. So trust your own gateway and services, and not the public.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Trust {
    /// Believes no caller. Every request begins a new correlation and a new trace.
    None,
    /// Believes every caller. For services that only your own services can reach.
    All,
    /// Believes some callers. [`Trust::when`] and [`Trust::networks`] make it.
    Some(Decide),
}

/// The decision of a [`Trust::Some`].
#[derive(Clone)]
pub struct Decide(Arc<dyn Fn(&Extensions) -> bool + Send + Sync>);

impl Trust {
    /// Believes callers for whose request `decide` returns `true`. `decide` gets the extensions of the request.
    pub fn when(decide: impl Fn(&Extensions) -> bool + Send + Sync + 'static) -> Self {
        Self::Some(Decide(Arc::new(decide)))
    }

    /// Believes callers whose [`PeerAddr`] is in one of these networks: `10.0.0.0/8`, `2001:db8::/32`, or single
    /// addresses. A request without a `PeerAddr` is not believed.
    ///
    /// # Errors
    /// A text is no network, or a prefix is longer than an address.
    pub fn networks<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidConfig> {
        let networks: Result<Vec<_>, _> =
            networks.into_iter().map(|network| Network::parse(network.as_ref())).collect();
        let networks = networks?;
        Ok(Self::when(move |extensions| {
            let peer = extensions.get::<PeerAddr>().map(|PeerAddr(peer)| peer.to_canonical());
            peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer)))
        }))
    }

    /// Returns whether the caller of a request with these extensions is believed.
    #[must_use]
    pub fn believes(&self, extensions: &Extensions) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(Decide(decide)) => decide(extensions),
        }
    }
}

impl fmt::Debug for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decide").finish_non_exhaustive()
    }
}
