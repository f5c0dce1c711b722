//! Fields that a backend could take for another one.

use std::collections::HashSet;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::forwarded::OURS;
use super::{Seen, hop};
use crate::route::Checked;

/// Whether a backend could read `name` as `other`. CGI and its descendants write every byte except
/// letters and digits as `_`.
pub(crate) fn is_alike(name: &str, other: &str) -> bool {
    let is_same =
        |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(is_same)
}

/// Removes the fields whose name `is_unwanted`.
pub(crate) fn remove_where(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let unwanted: Vec<HeaderName> =
        headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Whether the proxy removes or writes a field for another reason than the identity of a caller.
pub(crate) fn is_reserved(name: &str) -> bool {
    let fields = RESERVED.iter().chain(&OF_CONTEXT).chain(&OURS);
    fields.into_iter().any(|ours| is_alike(name, ours)) || hop::is_of_proxies(name)
}

/// The fields that frame or route a message, or that carry credentials.
const RESERVED: [&str; 11] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The usual fields of credentials. An admission that checks another one names it.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "x-api-key"];

/// The fields of [`buttress_http::context`].
pub(super) const OF_CONTEXT: [&str; 7] = [
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-correlation-id",
    "x-request-id",
    "x-request-priority",
    "x-request-timeout-ms",
];

/// Whether a backend could read `name` as a field that frames or routes a message, and this proxy does not.
pub(super) fn is_disguised(name: &str) -> bool {
    RESERVED.iter().any(|reserved| is_alike(name, reserved) && name != *reserved)
}

/// Whether `Connection` may not name a field: a peer further out decides about it, or it shows a loop.
pub(super) fn is_end_to_end(name: &str) -> bool {
    let fields = OURS.iter().chain(&OF_CONTEXT).chain(&["via"]);
    fields.into_iter().any(|ours| is_alike(name, ours))
}

/// Whether a backend could take a field for one of a context.
pub(crate) fn is_of_context(name: &str) -> bool {
    OF_CONTEXT.iter().any(|ours| is_alike(name, ours))
}

/// Removes the fields of a context.
pub(crate) fn remove_context(headers: &mut HeaderMap) {
    remove_where(headers, is_of_context);
}

/// Returns each name once: many routes name the same one.
fn once_each(names: impl Iterator<Item = HeaderName>) -> Vec<HeaderName> {
    let names: HashSet<HeaderName> = names.collect();
    names.into_iter().collect()
}

/// The fields of requests that speak about the caller, over all routes of a proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfCallers {
    identity: Vec<HeaderName>,
    credentials: Vec<HeaderName>,
}

impl OfCallers {
    pub(crate) fn of(routes: &[Checked]) -> Self {
        let identity = routes.iter().filter_map(|route| route.identity.clone());
        let admits = routes.iter().filter_map(|route| route.admit.as_ref());
        let credentials = admits.flat_map(|admit| admit.0.credentials());
        Self { identity: once_each(identity), credentials: once_each(credentials) }
    }

    /// Whether a trailer of a request may not pass: a backend that adds trailers to the fields would believe it.
    pub(crate) fn is_no_trailer(&self, name: &str) -> bool {
        is_reserved(name) || self.is_identity(name) || self.is_credential(name)
    }

    /// Whether a backend could take a field for credentials.
    fn is_credential(&self, name: &str) -> bool {
        let named = self.credentials.iter().map(HeaderName::as_str);
        named.chain(CREDENTIALS).any(|ours| is_alike(name, ours))
    }

    /// Whether a backend could take a field for the identity of the caller.
    pub(crate) fn is_identity(&self, name: &str) -> bool {
        self.identity.iter().any(|identity| is_alike(name, identity.as_str()))
    }

    /// Removes every field that a backend could take for the identity of the caller.
    pub(crate) fn remove_identity(&self, headers: &mut HeaderMap) {
        if !self.identity.is_empty() {
            remove_where(headers, |name| self.is_identity(name));
        }
    }

    /// Removes the fields with credentials. `seen` are the fields of `headers`.
    pub(crate) fn remove_credentials(&self, headers: &mut HeaderMap, seen: Seen) {
        if seen.has(Seen::AUTHORIZATION) {
            headers.remove(AUTHORIZATION);
        }
        for name in &self.credentials {
            headers.remove(name);
        }
    }

    /// Removes every field that a mirror could take for credentials, also the cookies of a session.
    pub(crate) fn withhold_credentials(&self, headers: &mut HeaderMap) {
        remove_where(headers, |name| self.is_credential(name));
    }
}
