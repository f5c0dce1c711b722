use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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

/// The address of a peer, if there is one: the result of a closure of
/// [`AddressKeys::peer_from`](super::AddressKeys::peer_from) and
/// [`Trust::peer_from`](crate::context::Trust::peer_from).
///
/// `IpAddr`, `SocketAddr`, [`PeerAddr`] and an `Option` of each of them implement the trait.
pub trait IntoPeer {
    /// Returns the address.
    fn into_peer(self) -> Option<PeerAddr>;
}

impl<T> IntoPeer for T
where
    PeerAddr: From<T>,
{
    fn into_peer(self) -> Option<PeerAddr> {
        Some(self.into())
    }
}

impl<T> IntoPeer for Option<T>
where
    PeerAddr: From<T>,
{
    fn into_peer(self) -> Option<PeerAddr> {
        self.map(PeerAddr::from)
    }
}

/// Finds the address with `peer` in the extension `T`.
pub(crate) fn find_peer<T, A>(peer: impl Fn(&T) -> A + Send + Sync + 'static) -> Arc<FindPeer>
where
    T: Send + Sync + 'static,
    A: IntoPeer,
{
    Arc::new(move |extensions| extensions.get::<T>().and_then(|found| peer(found).into_peer()))
}
