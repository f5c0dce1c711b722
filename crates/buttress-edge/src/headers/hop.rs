//! Fields of one connection (RFC 9110, section 7.6.1).

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What the removed fields said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Removed {
    /// Whether the sender accepts trailers.
    pub(crate) trailers: bool,
}

/// Removes all fields that are for one connection, and the fields that `Connection` names.
///
/// A `Content-Length` beside a `Transfer-Encoding` is removed too: only one of them may frame the
/// message that is sent on.
pub(crate) fn remove(headers: &mut HeaderMap) -> Removed {
    let mut removed = Removed::default();
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            // The route, the framing and the trailers are decided later, whatever this field names.
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING | TE))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if headers.contains_key(TE) {
        removed.trailers = headers
            .get_all(TE)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case(b"trailers"));
        headers.remove(TE);
    }
    if headers.remove(TRANSFER_ENCODING).is_some() {
        headers.remove(CONTENT_LENGTH);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(UPGRADE);
    let is_of_proxies = |name: &HeaderName| name.as_str().starts_with("proxy-");
    if headers.keys().any(is_of_proxies) {
        let named: Vec<HeaderName> =
            headers.keys().filter(|name| is_of_proxies(name)).cloned().collect();
        for name in named {
            headers.remove(name);
        }
    }
    removed
}

/// Returns the elements of a list of tokens, without white space.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
