//! `X-Forwarded-For`, `-Proto` and `-Host`.

use std::fmt::Write;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::Seen;
use super::named::{is_alike, remove_where};

pub(crate) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The fields about the client, and the mark of a copied request. Only the proxy and trusted peers write them.
pub(crate) const OURS: [&str; 7] = [
    "forwarded",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-shadow",
];

/// The facts of a request that a backend cannot see for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The address at the other end of the connection.
    pub peer: Option<IpAddr>,
    /// Whether the fields of the peer are believed.
    pub is_trusted: bool,
    /// Whether the request came over TLS.
    pub is_secure: bool,
    /// The value of the original `Host`.
    pub host: Option<&'a HeaderValue>,
}

/// Replaces the fields about the client. The fields of a trusted peer are kept, and its own address
/// is added. `seen` are the fields of `headers`.
pub(crate) fn set(headers: &mut HeaderMap, facts: Facts<'_>, seen: Seen) {
    let has_some = seen.has(Seen::FORWARDED);
    if has_some {
        let is_ours = |name: &str| OURS.iter().any(|ours| is_alike(name, ours));
        let is_disguised = |name: &str| !OURS.contains(&name);
        remove_where(headers, |name| is_ours(name) && (!facts.is_trusted || is_disguised(name)));
    }
    if let Some(peer) = facts.peer.map(|peer| peer.to_canonical()) {
        let value = if has_some && headers.contains_key(FOR) {
            HeaderValue::try_from(listed(headers, peer)).ok()
        } else {
            value(peer)
        };
        if let Some(value) = value {
            headers.insert(FOR, value);
        }
    }
    if !has_some || !headers.contains_key(PROTO) {
        let scheme = if facts.is_secure { "https" } else { "http" };
        headers.insert(PROTO, HeaderValue::from_static(scheme));
    }
    if let Some(host) = facts.host.filter(|_| !has_some || !headers.contains_key(HOST)) {
        headers.insert(HOST, host.clone());
    }
}

/// Returns the addresses that are there, and `peer`.
fn listed(headers: &HeaderMap, peer: IpAddr) -> String {
    let mut list = String::new();
    for value in headers.get_all(FOR) {
        match value.to_str() {
            Ok(text) => {
                list.push_str(text);
                list.push_str(", ");
            }
            // A reader starts at the right end, and stops at an entry that it cannot parse. So
            // the entries further left are dropped with the entry: the reader must not see them.
            Err(_) => list.clear(),
        }
    }
    // Writing to a `String` cannot fail.
    let _ = write!(list, "{peer}");
    list
}

/// Returns an address as the value of a field. IPv4 is written by hand: the formatter costs ten times as much.
fn value(address: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(address) = address else { return address.to_string().try_into().ok() };
    let (mut text, mut length) = ([0; 15], 0);
    let mut slots = text.iter_mut();
    let mut push = |byte| {
        if let Some(slot) = slots.next() {
            *slot = byte;
            length += 1;
        }
    };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    HeaderValue::from_bytes(text.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_standard_library_writes_it() {
        for text in ["0.0.0.0", "9.10.99.100", "127.0.0.1", "255.255.255.255", "::1", "2001:db8::7"]
        {
            assert_eq!(value(text.parse().unwrap()).unwrap(), text);
        }
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 1, 22, octet]);
            assert_eq!(value(address).unwrap(), address.to_string());
        }
    }
}
