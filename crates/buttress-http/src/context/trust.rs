//! [`Trust`]: whose fields are believed.

use std::fmt;
use std::sync::Arc;

use buttress::InvalidConfig;
use http::header::FORWARDED;
use http::{Extensions, HeaderMap};

use crate::client_key::{FindPeer, IntoPeer, Network, PeerAddr, find_peer, forwarded_for};

/// The rule that decides whose context fields a [`ContextLayer::server`](super::ContextLayer::server) believes.
///
/// A caller that is trusted chooses the correlation id in your logs, the trace, the priority, and a deadline. A short
/// deadline makes calls time out, and timeouts open circuits. So trust your own services, and not the public.
///
/// A reverse proxy passes on the fields of its clients. Its address says nothing about the client behind it:
///
/// | who calls | use |
/// |---|---|
/// | your own services, directly or through proxies that write `X-Forwarded-For` | [`Trust::networks`] |
/// | a gateway that removes or overwrites the context fields of the public | [`Trust::gateways`] |
/// | only your own services; the public has no network path to this one | [`Trust::All`] |
///
/// A gateway overwrites a field like this (nginx). An empty value removes the field:
///
/// ```text
/// proxy_set_header x-correlation-id     $request_id;
/// proxy_set_header x-request-id         "";
/// proxy_set_header traceparent          "";
/// proxy_set_header tracestate           "";
/// proxy_set_header x-request-timeout-ms "";
/// proxy_set_header grpc-timeout         "";
/// proxy_set_header x-request-priority   "";
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Trust {
    /// Believes no caller. Every request begins a new correlation and a new trace.
    None,
    /// Believes every caller. For services that only your own services can reach.
    All,
    /// Believes some callers. [`Trust::when`], [`Trust::networks`] and [`Trust::gateways`] make it.
    Some(Decide),
}

/// The decision of a [`Trust::Some`].
#[derive(Clone)]
pub struct Decide(Rule);

#[derive(Clone)]
enum Rule {
    When(Arc<dyn Fn(&Extensions) -> bool + Send + Sync>),
    Networks {
        networks: Arc<[Network]>,
        find_peer: Arc<FindPeer>,
        /// Whether the addresses behind the peer must be trusted too.
        behind: bool,
    },
}

impl Trust {
    /// Believes a caller if `decide` returns `true` for its request. `decide` gets the extensions of the request.
    pub fn when(decide: impl Fn(&Extensions) -> bool + Send + Sync + 'static) -> Self {
        Self::Some(Decide(Rule::When(Arc::new(decide))))
    }

    /// Believes requests whose whole path is in these networks: `10.0.0.0/8`, `2001:db8::/32`, or single addresses.
    ///
    /// The address of the peer must be in them, and every address in `X-Forwarded-For`. So a client of the public
    /// behind your proxy is not believed, if the proxy adds the client's address. A proxy that adds none must remove or
    /// overwrite the [context fields](super) of its clients.
    ///
    /// These requests are not believed either:
    ///
    /// - a request without a peer address. The peer's address is the extension [`PeerAddr`]; axum needs
    ///   [`peer_from`](Self::peer_from);
    /// - a request with an entry in `X-Forwarded-For` that is not an address;
    /// - a request with a `Forwarded` field, because its addresses are not read.
    ///
    /// ```
    /// use buttress_http::client_key::PeerAddr;
    /// use buttress_http::context::Trust;
    /// use http::Request;
    ///
    /// let trust = Trust::networks(["10.0.0.0/8"])?;
    /// let believes = |forwarded_for: &str| {
    ///     let request = Request::builder()
    ///         .extension(PeerAddr([10, 0, 0, 1].into()))
    ///         .header("x-forwarded-for", forwarded_for)
    ///         .body(())?;
    ///     Ok::<_, http::Error>(trust.believes(request.extensions(), request.headers()))
    /// };
    /// // The proxy 10.0.0.1 passes on a request of another service, and one of the public.
    /// assert!(believes("10.0.0.7")?);
    /// assert!(!believes("203.0.113.9")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if a text is not a network, or a prefix is longer than an address.
    pub fn networks<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidConfig> {
        Self::of_networks(networks, true)
    }

    /// Believes every request of a peer in these networks, whichever client is behind the peer.
    ///
    /// Use it for gateways that remove or overwrite the [context fields](super) of their clients. Behind any other
    /// proxy, the public chooses the deadlines and priorities of your service. `X-Forwarded-For` is not read.
    ///
    /// The peer's address is the extension [`PeerAddr`]; axum needs [`peer_from`](Self::peer_from). A request without a
    /// peer address is not believed.
    ///
    /// # Errors
    /// Returns an error if a text is not a network, or a prefix is longer than an address.
    pub fn gateways<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidConfig> {
        Self::of_networks(networks, false)
    }

    fn of_networks<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
        behind: bool,
    ) -> Result<Self, InvalidConfig> {
        let networks = Network::parse_all(networks)?;
        let find_peer = Arc::new(PeerAddr::of);
        Ok(Self::Some(Decide(Rule::Networks { networks, find_peer, behind })))
    }

    /// Finds the peer's address in the extension `T` instead of [`PeerAddr`]. Only [`Trust::networks`] and
    /// [`Trust::gateways`] use the address of the peer.
    ///
    /// With axum: `.peer_from(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer)`, and
    /// `into_make_service_with_connect_info::<SocketAddr>()` for the server.
    ///
    /// With tonic: `.peer_from(TcpConnectInfo::remote_addr)`. A connection without an address, e.g. over a Unix socket,
    /// returns `None`.
    #[must_use]
    pub fn peer_from<T, A>(mut self, peer: impl Fn(&T) -> A + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        A: IntoPeer,
    {
        if let Self::Some(Decide(Rule::Networks { find_peer: find, .. })) = &mut self {
            *find = find_peer(peer);
        }
        self
    }

    /// Returns whether the caller of a request with these extensions and headers is believed.
    #[must_use]
    pub fn believes(&self, extensions: &Extensions, headers: &HeaderMap) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(Decide(rule)) => rule.believes(extensions, headers),
        }
    }
}

impl Rule {
    fn believes(&self, extensions: &Extensions, headers: &HeaderMap) -> bool {
        let (networks, find_peer, behind) = match self {
            Self::When(decide) => return decide(extensions),
            Self::Networks { networks, find_peer, behind } => (networks, find_peer, *behind),
        };
        let is_trusted = |address| networks.iter().any(|network| network.contains(address));
        let Some(PeerAddr(peer)) = find_peer(extensions) else { return false };
        let is_path_trusted = || {
            !headers.contains_key(FORWARDED)
                && forwarded_for(headers).all(|address| address.is_some_and(is_trusted))
        };
        is_trusted(peer.to_canonical()) && (!behind || is_path_trusted())
    }
}

impl fmt::Debug for Decide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decide").finish_non_exhaustive()
    }
}
