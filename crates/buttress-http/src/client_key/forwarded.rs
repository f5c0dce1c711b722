use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use buttress::InvalidConfig;
use http::{Extensions, HeaderMap, HeaderName, Request};

use super::network::Network;
use super::peer::{FindPeer, IntoPeer, find_peer};
use super::{AddressKey, PeerAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An extractor of the [`AddressKey`] of a request: the peer's address, or the address of the
/// client that trusted proxies report in `X-Forwarded-For`.
///
/// By default no proxy is trusted and the header is not read. The peer's address is the
/// [`PeerAddr`] among the extensions of the request, or the address that
/// [`peer_from`](Self::peer_from) finds. Requests without a peer address share the key
/// [`AddressKey::Unknown`], whatever their headers say.
///
/// ```
/// use std::net::Ipv4Addr;
/// use buttress_http::client_key::{AddressKey, AddressKeys, PeerAddr};
/// use http::Request;
///
/// let keys = AddressKeys::new().trust_networks(["10.0.0.0/8"])?;
/// let request = Request::builder()
///     .extension(PeerAddr([10, 0, 0, 1].into()))
///     .header("x-forwarded-for", "192.0.2.66, 203.0.113.7, 10.0.0.9")
///     .body(())?;
/// // The first proxy wrote 203.0.113.7. The client itself wrote the entry to its left.
/// assert_eq!(keys.of(&request), AddressKey::V4(Ipv4Addr::new(203, 0, 113, 7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct AddressKeys {
    find_peer: Arc<FindPeer>,
    trust: Trust,
}

/// The proxies whose entries are trusted.
#[derive(Clone, Debug)]
enum Trust {
    /// This number of proxies, whatever their addresses.
    Hops(usize),
    Networks(Arc<[Network]>),
}

impl Default for AddressKeys {
    fn default() -> Self {
        Self { find_peer: Arc::new(PeerAddr::of), trust: Trust::Hops(0) }
    }
}

impl AddressKeys {
    /// Returns keys that use the peer's address and trust no proxy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds the peer's address in the extension `T` instead of [`PeerAddr`].
    ///
    /// With axum: `.peer_from(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer)`, and
    /// `into_make_service_with_connect_info::<SocketAddr>()` for the server.
    ///
    /// With tonic: `.peer_from(TcpConnectInfo::remote_addr)`. A connection without an address, e.g. over a Unix socket,
    /// returns `None`.
    pub fn peer_from<T, A>(mut self, peer: impl Fn(&T) -> A + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        A: IntoPeer,
    {
        self.find_peer = find_peer(peer);
        self
    }

    /// Trusts this number of proxies, the peer included. Default: 0, the peer is the client.
    ///
    /// The key is the entry of `X-Forwarded-For` that the outermost proxy wrote: with 1 the
    /// rightmost entry, with 2 the entry to its left. If the header has fewer entries, or one of
    /// them is not an address, the key is the peer's address. Use it only if every request passes
    /// through all these proxies. A client that bypasses one of them chooses its own key.
    ///
    /// It replaces [`trust_networks`](Self::trust_networks).
    pub fn trust_hops(mut self, hops: usize) -> Self {
        self.trust = Trust::Hops(hops);
        self
    }

    /// Trusts the proxies in these networks: `10.0.0.0/8`, `2001:db8::/32`, or single addresses.
    /// Default: none.
    ///
    /// The layer reads `X-Forwarded-For` from the right, starting at the peer. While an address is
    /// trusted, it reads the entry to its left. The key is the first address that is not trusted.
    /// If the entries end first, or the next entry is not an address, the key is the last trusted
    /// address.
    ///
    /// It replaces [`trust_hops`](Self::trust_hops).
    ///
    /// # Errors
    /// Returns an error if a text is not a network, or a prefix is longer than an address.
    pub fn trust_networks<N: AsRef<str>>(
        mut self,
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidConfig> {
        self.trust = Trust::Networks(Network::parse_all(networks)?);
        Ok(self)
    }

    /// Returns the key of `request`.
    #[must_use]
    pub fn of<B>(&self, request: &Request<B>) -> AddressKey {
        match self.client(request.extensions(), request.headers()) {
            Some(address) => address.into(),
            None => AddressKey::Unknown,
        }
    }

    /// Returns the closure that keyed layers take.
    pub fn key<B>(self) -> impl Fn(&Request<B>) -> AddressKey + Clone + Send + Sync + 'static {
        move |request| self.of(request)
    }

    fn client(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        let PeerAddr(peer) = (self.find_peer)(extensions)?;
        let peer = peer.to_canonical();
        Some(match &self.trust {
            Trust::Hops(hops) => behind_hops(*hops, headers).unwrap_or(peer),
            Trust::Networks(networks) => behind_networks(networks, peer, headers),
        })
    }
}

impl fmt::Debug for AddressKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressKeys").field("trust", &self.trust).finish_non_exhaustive()
    }
}

/// Returns the address that the last of `hops` proxies reports, or `None` if an entry up to there
/// is not an address.
fn behind_hops(hops: usize, headers: &HeaderMap) -> Option<IpAddr> {
    let last = hops.checked_sub(1)?;
    let mut client = None;
    let mut entries = forwarded_for(headers);
    for _ in 0..=last {
        client = Some(entries.next()??);
    }
    client
}

/// Returns the first address from the peer outwards that is not trusted. If all are trusted,
/// returns the last one.
fn behind_networks(networks: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address| networks.iter().any(|network| network.contains(address));
    let mut reached = peer;
    let mut entries = forwarded_for(headers);
    while is_trusted(reached) {
        let Some(Some(next)) = entries.next() else { break };
        reached = next;
    }
    reached
}

/// Returns the entries of all `X-Forwarded-For` fields as one list, from the right; `None` for an
/// entry that is not an address.
pub(crate) fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','))
        .map(address)
}

/// Parses the address in an entry: alone, in brackets, or with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(in_brackets).or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}
