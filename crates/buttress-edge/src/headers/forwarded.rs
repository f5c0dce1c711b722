//! `X-Forwarded-For`, `-Proto` and `-Host`.

use std::fmt::Write;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName, HeaderValue};

pub(crate) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The names that a backend could read as one of ours. CGI and its descendants read `_` as `-`.
const OURS: [&str; 6] = [
    "forwarded",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
];

/// The facts of a request that a backend cannot see for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The address at the other end of the connection.
    pub(crate) peer: Option<IpAddr>,
    /// Whether the fields of the peer are believed.
    pub(crate) is_trusted: bool,
    /// The value of the original `Host`.
    pub(crate) host: Option<&'a HeaderValue>,
}

/// Replaces the fields about the client. The fields of a trusted peer are kept, and its own address
/// is added.
pub(crate) fn set(headers: &mut HeaderMap, facts: Facts<'_>) {
    let is_alias = |name: &HeaderName| {
        let name = name.as_str();
        name.contains('_') && OURS.contains(&&*name.replace('_', "-"))
    };
    let aliases: Vec<HeaderName> = headers.keys().filter(|name| is_alias(name)).cloned().collect();
    for alias in aliases {
        headers.remove(alias);
    }
    if !facts.is_trusted {
        for name in [FOR, PROTO, HOST, REAL_IP, FORWARDED] {
            headers.remove(name);
        }
        headers.remove("x-forwarded-port");
    }
    if let Some(peer) = facts.peer {
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
        let _ = write!(list, "{}", peer.to_canonical());
        if let Ok(value) = HeaderValue::try_from(list) {
            headers.insert(FOR, value);
        }
    }
    if !headers.contains_key(PROTO) {
        headers.insert(PROTO, HeaderValue::from_static("http"));
    }
    if let Some(host) = facts.host.filter(|_| !headers.contains_key(HOST)) {
        headers.insert(HOST, host.clone());
    }
}
