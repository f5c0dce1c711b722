//! The check of a route, and its result for the proxy.

use std::sync::Arc;

use buttress::InvalidConfig;
use http::{HeaderName, Method};

use super::Route;
use super::split::RouteSplit;
use super::to::{Stated, To};
use crate::admission::Admits;
use crate::headers::named;
use crate::host;
use crate::numbers::Counters;
use crate::path::{self, Allowed};
use crate::route_limits::Limits;

impl Route {
    /// Checks the route, and returns the parts that the proxy needs.
    pub(crate) fn check(self) -> Result<Checked, InvalidConfig> {
        let field = |name: &str| format!("routes.{}.{name}", self.name);
        let invalid = |name: &str, value: &str, bound: &str| {
            InvalidConfig::new(field(name), format!("{value:?}"), bound)
        };
        if self.name.is_empty() {
            return Err(InvalidConfig::new(
                "routes",
                "a route with an empty name",
                "a named route",
            ));
        }
        let host = match &self.host {
            None => Host::Any,
            Some(given) => {
                let bound = "a host name without a port, or such a name after `*.`";
                let refused = || invalid("host", given, bound);
                let (name, is_wildcard) = match given.strip_prefix("*.") {
                    Some(name) => (name, true),
                    None => (given.as_str(), false),
                };
                let has_port = name.contains(':') && !name.starts_with('[') || name.ends_with(':');
                let name = host::normalize(name.as_bytes()).filter(|_| !has_port);
                let name = name.ok_or_else(refused)?.into_owned();
                if is_wildcard { Host::Below(format!(".{name}")) } else { Host::Exact(name) }
            }
        };
        let allowed = Allowed { encoded_slash: self.encoded_slash };
        let prefix = segments(&self.prefix, allowed).ok_or_else(|| {
            invalid("prefix", &self.prefix, "an unambiguous path without a slash at its end")
        })?;
        let strip = match &self.strip {
            None => Vec::new(),
            Some(given) => segments(given, allowed)
                .filter(|strip| starts_with(&prefix, strip))
                .ok_or_else(|| invalid("strip", given, "a prefix of the route's own prefix"))?,
        };
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            let bound = "at least one method, or unset for every method";
            return Err(InvalidConfig::new(field("methods"), "no method", bound));
        }
        let methods = self.methods.unwrap_or_default();
        if let Some(method) =
            methods.iter().find(|method| matches!(**method, Method::CONNECT | Method::TRACE))
        {
            let bound = "a method that a proxy forwards";
            return Err(InvalidConfig::new(field("methods"), method, bound));
        }
        if self.limits.time.is_some_and(|limit| limit.is_zero()) {
            return Err(InvalidConfig::new(field("time-limit"), "0s", "longer than zero"));
        }
        let stated = match (self.public, &self.admit) {
            (true, None) | (false, Some(_)) => None,
            (false, None) => Some("nothing"),
            (true, Some(_)) => Some("`.public()` and `.admit(..)`"),
        };
        if let Some(stated) = stated {
            let bound = "stated: call either `.public()` or `.admit(..)`";
            return Err(InvalidConfig::new(field("admit"), stated, bound));
        }
        if let Some(admit) = &self.admit {
            admit.0.check().map_err(|error| {
                let field = field(&format!("admit.{}", error.field()));
                InvalidConfig::new(field, error.value(), error.bound())
            })?;
        }
        let identity = match &self.identity {
            None => None,
            Some(given) => {
                let bound =
                    "a field that the proxy does not use itself, on a route with an admission";
                let refused = || invalid("forward-identity", given, bound);
                let name: HeaderName = given.parse().map_err(|_| refused())?;
                if self.public || named::is_reserved(name.as_str()) {
                    return Err(refused());
                }
                Some(name)
            }
        };
        if self.public && self.split.as_ref().is_some_and(RouteSplit::sticks_by_subject) {
            let (value, bound) = ("set on a public route", "set on a route with an admission");
            return Err(InvalidConfig::new(field("split.stick-by-subject"), value, bound));
        }
        let again = self.retry.transpose().map_err(|error| {
            let name = format!("retry.{}", error.field());
            InvalidConfig::new(field(&name), error.value(), error.bound())
        })?;
        let to = Stated {
            upstream: self.upstream,
            service: self.service,
            split: self.split,
            shadow: self.shadow,
            again,
            replay_buffer: self.replay_buffer,
            honours_keys: self.honours_keys,
        };
        let to = to.check(&methods, field)?;
        Ok(Checked {
            host,
            prefix,
            methods,
            strip: strip.len(),
            admit: self.admit,
            identity,
            forward_credentials: self.forward_credentials,
            to,
            encoded_slash: self.encoded_slash,
            max_request_body: self.max_request_body,
            limits: self.limits,
            name: self.name,
            counters: Arc::default(),
        })
    }
}

/// A route that was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub name: String,
    pub host: Host,
    /// The prefix in its matched form, without a slash at its end: `/` is empty.
    pub prefix: Vec<u8>,
    /// Empty for every method.
    pub methods: Vec<Method>,
    /// How many bytes of the matched form are removed.
    pub strip: usize,
    /// `None` for a public route.
    pub admit: Option<Admits>,
    /// The field that gets the subject.
    pub identity: Option<HeaderName>,
    pub forward_credentials: bool,
    pub to: To,
    pub encoded_slash: bool,
    pub max_request_body: Option<u64>,
    pub limits: Limits,
    pub counters: Arc<Counters>,
}

/// The hosts of a route.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Host {
    Exact(String),
    /// All names that end with this text, which begins with a dot.
    Below(String),
    Any,
}

/// Returns the matched form of a prefix; an empty one for `/`.
fn segments(prefix: &str, allowed: Allowed) -> Option<Vec<u8>> {
    let matched = path::check(prefix.as_bytes(), allowed).ok()?;
    match &*matched {
        b"/" => Some(Vec::new()),
        [.., b'/'] => None,
        _ => Some(matched.into_owned()),
    }
}

/// Whether the segments of `path` begin with the segments of `prefix`.
fn starts_with(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}
