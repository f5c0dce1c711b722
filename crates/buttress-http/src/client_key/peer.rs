use std::net::{IpAddr, SocketAddr};

/// The address at the other end of the connection, as an extension of the request.
///
/// The server inserts it, or a `map_request` around the service. axum inserts its own type instead:
/// see [`AddressKeys::peer_from`](super::AddressKeys::peer_from).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerAddr(pub IpAddr);

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
