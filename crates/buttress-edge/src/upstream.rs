//! [`Upstream`]: the backends of a route.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress::InvalidConfig;
use http::Uri;
use http::uri::{Authority, Scheme};

use crate::path::{self, Allowed};

/// The backends of a route. Cheap to clone; clones share the turn.
///
/// Requests go to the backends in turn. If a backend refuses the connection, the request goes to the
/// next one, once, whatever its method: nothing of it was sent.
#[derive(Clone, Debug)]
pub struct Upstream {
    endpoints: Arc<[Endpoint]>,
    turn: Arc<AtomicUsize>,
    http2: bool,
}

/// One backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Endpoint {
    pub(crate) authority: Authority,
    /// The path that goes before each request's, without a slash at its end.
    pub(crate) base: String,
}

impl Upstream {
    /// Creates a fixed set of backends, each a URL such as `http://10.0.0.1:8001` or
    /// `http://orders:8001/v1`. The path of a URL goes before the path of each request.
    ///
    /// # Errors
    /// The set is empty, or a URL is not of this form. `https` is not supported.
    pub fn fixed<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, InvalidConfig> {
        let endpoints: Result<Vec<_>, _> =
            urls.into_iter().map(|url| Endpoint::parse(url.as_ref())).collect();
        let endpoints = endpoints?;
        if endpoints.is_empty() {
            return Err(InvalidConfig::new("upstream", "no URL", "at least one URL"));
        }
        Ok(Self { endpoints: endpoints.into(), turn: Arc::default(), http2: false })
    }

    /// Uses HTTP/2 without negotiation. Default: HTTP/1.1. gRPC needs HTTP/2.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Returns all endpoints once, the one whose turn it is first.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &Endpoint> {
        let count = self.endpoints.len();
        // Only a turn, so no order with other memory. A single endpoint needs none.
        let turn = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        self.endpoints.iter().cycle().skip(turn.checked_rem(count).unwrap_or(0)).take(count)
    }
}

impl Endpoint {
    fn parse(url: &str) -> Result<Self, InvalidConfig> {
        let bound = "a URL such as http://10.0.0.1:8001 or http://orders:8001/v1";
        let refused = || InvalidConfig::new("upstream", format!("{url:?}"), bound);
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let parts = uri.into_parts();
        let authority = parts.authority.ok_or_else(refused)?;
        if parts.scheme != Some(Scheme::HTTP)
            || crate::host::normalize(authority.as_str().as_bytes()).is_none()
        {
            return Err(refused());
        }
        let target = parts.path_and_query.ok_or_else(refused)?;
        if target.query().is_some() || url.contains('#') {
            return Err(refused());
        }
        let base = target.path();
        path::check(base.as_bytes(), Allowed::default()).map_err(|_| refused())?;
        Ok(Self { authority, base: base.strip_suffix('/').unwrap_or(base).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_turns() {
        let upstream = Upstream::fixed(["http://a", "http://b:2", "http://c/v1/"]).unwrap();
        let first = |upstream: &Upstream| upstream.in_turn().next().unwrap().authority.to_string();
        let turns: Vec<_> = (0..4).map(|_| first(&upstream.clone())).collect();
        assert_eq!(turns, ["a", "b:2", "c", "a"]);
        let rest: Vec<_> = upstream.in_turn().map(|endpoint| &*endpoint.base).collect();
        assert_eq!(rest, ["", "/v1", ""]);
    }

    #[test]
    fn what_is_no_backend_is_refused() {
        for url in [
            "",
            "a",
            "a:80",
            "/a",
            "https://a",
            "ftp://a",
            "http://",
            "http://u@a",
            "http://u:p@a",
            "http://a?b",
            "http://a/#b",
            "http://a/../b",
            "http://a//b",
            "http://a:x",
            "http://a:65536",
        ] {
            let error = Upstream::fixed([url]).unwrap_err();
            assert_eq!(error.field(), "upstream", "{url}");
        }
        assert!(Upstream::fixed([""; 0]).is_err());
    }
}
