use std::net::IpAddr;
use std::sync::Arc;

use buttress::InvalidConfig;

/// The addresses with a common prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Network {
    /// The canonical form: never IPv4-mapped if the prefix covers the mapping.
    base: IpAddr,
    prefix: u32,
}

impl Network {
    pub(crate) fn parse_all<N: AsRef<str>>(
        texts: impl IntoIterator<Item = N>,
    ) -> Result<Arc<[Self]>, InvalidConfig> {
        texts.into_iter().map(|text| Self::parse(text.as_ref())).collect()
    }

    /// Parses `10.0.0.0/8`, `2001:db8::/32`, or one address.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let refused = || {
            let bound = "an address, or a network such as 10.0.0.0/8 or 2001:db8::/32";
            InvalidConfig::new("trust-networks", format!("{text:?}"), bound)
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| refused())?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // `u32` would accept a sign too.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(refused)?
            }
            Some(_) => return Err(refused()),
        };
        Ok(match base.to_canonical() {
            canonical if canonical.is_ipv4() && base.is_ipv6() && prefix >= 96 => {
                Self { base: canonical, prefix: prefix - 96 }
            }
            _ => Self { base, prefix },
        })
    }

    /// Whether the canonical `address` belongs to the network.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differ = base.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differ = base.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}
