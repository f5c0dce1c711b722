use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The key of a client's address.
///
/// An IPv4 address is its own key. IPv6 addresses share a key by their first 64 bits, because a
/// network hands a whole /64 to one customer. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) has
/// the key of the IPv4 address.
///
/// ```
/// use std::net::IpAddr;
/// use buttress_http::client_key::AddressKey;
/// let key = |address: &str| AddressKey::from(address.parse::<IpAddr>().unwrap());
/// assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
/// assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
/// assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
/// assert_eq!(key("2001:db8::1").to_string(), "2001:db8::/64");
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressKey {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 network of 64 bits; the other 64 bits are zero.
    V6(Ipv6Addr),
    /// The shared key of every request without a peer address.
    Unknown,
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                Self::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(network) => write!(f, "{network}/64"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
