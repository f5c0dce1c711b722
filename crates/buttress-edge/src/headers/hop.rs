//! Fields of one connection (RFC 9110, section 7.6.1).

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

use super::Seen;
use super::named::{is_disguised, is_end_to_end, is_reserved, remove_where};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The contents of the removed fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Removed {
    /// Whether the sender accepts trailers.
    pub trailers: bool,
    /// The protocols of `Upgrade`, if `Connection` names the field.
    pub upgrade: Option<HeaderValue>,
}

/// Removes all fields that are for one connection, and the fields that `Connection` names.
///
/// A `Content-Length` beside a `Transfer-Encoding` is removed too: only one of them may frame the
/// message that is sent on.
pub(crate) fn remove(headers: &mut HeaderMap, seen: Seen) -> Removed {
    let mut removed = Removed::default();
    if !seen.has(Seen::OF_CONNECTION) {
        return removed;
    }
    if seen.has(Seen::CONNECTION) {
        let is_upgrade = |token: &[u8]| token.eq_ignore_ascii_case(b"upgrade");
        if headers.get_all(CONNECTION).iter().flat_map(tokens).any(is_upgrade) {
            removed.upgrade = joined(headers, &UPGRADE);
        }
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            // The route, the framing and the trailers are decided later, whatever this field names. So are the
            // fields of a peer further out: a client could have it named by a trusted peer that passes this field on.
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING | TE))
            .filter(|name| !is_end_to_end(name.as_str()))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if seen.has(Seen::TE) {
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
    if seen.has(Seen::HOP) {
        remove_where(headers, is_of_proxies);
    }
    if seen.has(Seen::ODD) {
        remove_where(headers, is_disguised);
    }
    removed
}

/// Whether [`remove`] removes a field, whatever `Connection` names.
pub(crate) fn is_removed(name: &str) -> bool {
    let of_connection = [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE];
    of_connection.iter().any(|removed| removed == name) || is_of_proxies(name) || is_disguised(name)
}

/// Whether a field is for proxies. CGI turns `Proxy` into a variable that some clients of HTTP obey.
pub(super) fn is_of_proxies(name: &str) -> bool {
    let rest = name.strip_prefix("proxy");
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

/// Leaves one length of those that a message repeats (RFC 9110, section 8.6), and none if they differ.
pub(crate) fn join_lengths(headers: &mut HeaderMap) {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(first), second) = (values.next(), values.next()) else { return };
    if second.is_none() && !first.as_bytes().contains(&b',') {
        return;
    }
    let one = tokens(first).next().unwrap_or_default();
    let are_equal = headers.get_all(CONTENT_LENGTH).iter().flat_map(tokens).all(|it| it == one);
    match HeaderValue::from_bytes(one).ok().filter(|_| are_equal) {
        Some(one) => drop(headers.insert(CONTENT_LENGTH, one)),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// Whether a message is coded otherwise than in chunks. The proxy removes the name of the coding, but not the coding.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().flat_map(tokens);
    codings.next().is_some_and(|first| !first.eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
}

/// Removes the trailers of an answer that frame or route a message.
pub(crate) fn remove_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, is_reserved);
}

/// Returns the values of a list as one value.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let is_empty = values.is_empty();
    HeaderValue::from_bytes(&values.join(&b", "[..])).ok().filter(|_| !is_empty)
}

/// Returns the elements of a list of tokens, without white space.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
