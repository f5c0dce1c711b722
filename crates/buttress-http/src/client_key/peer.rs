use std::net::{IpAddr, SocketAddr};

use http::Extensions;

/// The address at the other end of the connection, as an extension of the request.
///
/// The server inserts it, or a `map_request` around the service. axum inserts its own type instead:
/// see [`AddressKeys::peer_from`](super::AddressKeys::peer_from) and
/// [`Trust::peer_from`](crate::context::Trust::peer_from).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerAddr(pub IpAddr);

pub(crate) type FindPeer = dyn Fn(&Extensions) -> Option<PeerAddr> + Send + Sync;

impl PeerAddr {
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied()
    }
}

impl From<IpAddr> for PeerAddr {
    fn from(address: IpAddr) -> Self {
        Self(address)
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self(address.ip())
    }
}
