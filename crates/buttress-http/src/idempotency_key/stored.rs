use std::fmt;

use bytes::Bytes;
use http::header::{CONNECTION, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body::Body;

use super::body::BufferedBody;

/// Fields about the connection (RFC 9110, section 7.6.1), in addition to those that `Connection`
/// names.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A stored response: status, header fields, body, and trailers if there were any.
///
/// An [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer) keeps it in its store. A
/// [`MemoryStore`](buttress::idempotency::MemoryStore) holds it unchanged; a
/// [`ResponseCodec`](super::ResponseCodec) encodes it for stores of bytes. A clone copies the
/// header and shares the body.
///
/// It omits version and extensions of the response. It also omits the header fields about the
/// connection: `Connection` and the fields that it names, `Keep-Alive`, `Proxy-Connection`,
/// `Proxy-Authenticate`, `TE`, `Transfer-Encoding` and `Upgrade`. The layer omits fields that
/// belong to one caller: see [`leave_out`](super::IdempotencyKeyLayer::leave_out).
#[derive(Clone, PartialEq, Eq)]
pub struct StoredResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl StoredResponse {
    /// Stores a response whose body is complete.
    #[must_use]
    pub fn new(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self::of(&parts, body, None)
    }

    pub(super) fn of(parts: &Parts, body: Bytes, trailers: Option<HeaderMap>) -> Self {
        let trailers = trailers.as_ref().map(end_to_end);
        Self { status: parts.status, headers: end_to_end(&parts.headers), body, trailers }
    }

    /// Returns the status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the header fields.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the trailers, if there were any.
    #[must_use]
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// Returns the stored response without the fields `names`, in header and trailers.
    pub(super) fn without(mut self, names: &[HeaderName]) -> Self {
        for fields in std::iter::once(&mut self.headers).chain(&mut self.trailers) {
            if names.iter().any(|name| fields.contains_key(name)) {
                // Built from the start: removing a field would change the order of the others.
                *fields = only(fields, |name| !names.contains(name));
            }
        }
        self
    }

    /// Converts the stored response into a response with a body.
    #[must_use]
    pub fn into_response<B: Body>(self) -> Response<BufferedBody<B>> {
        let Self { status, headers, body, trailers } = self;
        let mut response = Response::new(BufferedBody::whole(body, trailers));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Returns the fields of `headers` that are not about the connection, in their order.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let options = headers.get_all(CONNECTION);
    let named = |name: &HeaderName| {
        let options = options.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(name.as_ref()))
    };
    only(headers, |name| !HOP_BY_HOP.contains(name) && !named(name))
}

/// Returns the fields of `headers` whose names `keep` accepts, in their order.
fn only(headers: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers.iter().filter(|(name, _)| keep(name)) {
        // These are fewer than before, so they fit.
        let _ = kept.try_append(name, value.clone());
    }
    kept
}

impl fmt::Debug for StoredResponse {
    /// Omits header and body: they hold secrets, and debug output reaches logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}
