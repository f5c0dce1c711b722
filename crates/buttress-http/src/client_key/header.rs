use std::fmt;

use buttress::InvalidConfig;
use http::header::GetAll;
use http::{HeaderName, HeaderValue, Request};

/// The greatest `max_bytes`.
const LONGEST: usize = 8192;

/// An extractor of the [`HeaderKey`] of a request: the value of a named header.
///
/// A client chooses its headers. A limit per header binds only if another component verified the
/// value before. That can be an authentication layer further out, or a gateway that writes the
/// header itself.
///
/// ```
/// use buttress_http::client_key::{HeaderKey, HeaderKeys};
/// use http::{HeaderName, Request};
///
/// let keys = HeaderKeys::new(HeaderName::from_static("x-api-key"));
/// let request = Request::builder().header("x-api-key", "k-17").body(())?;
/// assert_eq!(keys.of(&request).as_bytes(), Some(b"k-17".as_slice()));
/// assert_eq!(keys.of(&Request::new(())), HeaderKey::Missing);
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HeaderKeys {
    name: HeaderName,
    max_bytes: usize,
}

impl HeaderKeys {
    /// Reads the header `name`. Values of up to 128 bytes are keys.
    pub fn new(name: HeaderName) -> Self {
        Self { name, max_bytes: 128 }
    }

    /// Sets the maximum length of a header value, in bytes. Requests with a longer value share the
    /// key [`Unusable`](HeaderKey::Unusable). Default: 128. Between 1 and 8192. A layer
    /// keeps a copy of every key it holds.
    ///
    /// # Errors
    /// Returns an error if the length is outside these bounds.
    pub fn max_bytes(self, bytes: usize) -> Result<Self, InvalidConfig> {
        if !(1..=LONGEST).contains(&bytes) {
            let bound = format!("between 1 and {LONGEST}");
            return Err(InvalidConfig::new("max-bytes", bytes, bound));
        }
        Ok(Self { max_bytes: bytes, ..self })
    }

    /// Returns the key of `request`.
    #[must_use]
    pub fn of<B>(&self, request: &Request<B>) -> HeaderKey {
        self.of_fields(&request.headers().get_all(&self.name))
    }

    /// Returns the closure that keyed layers take.
    pub fn key<B>(self) -> impl Fn(&Request<B>) -> HeaderKey + Clone + Send + Sync + 'static {
        move |request| self.of(request)
    }

    fn of_fields(&self, fields: &GetAll<'_, HeaderValue>) -> HeaderKey {
        let mut fields = fields.iter();
        let Some(value) = fields.next() else { return HeaderKey::Missing };
        if fields.next().is_some() || value.len() > self.max_bytes {
            return HeaderKey::Unusable;
        }
        if value.is_empty() {
            return HeaderKey::Missing;
        }
        // A copy, because the value itself would keep the whole read buffer of the request alive.
        HeaderKey::Value(value.as_bytes().into())
    }
}

/// The value of a header, as a key. `Debug` shows only its length, because the value may be a
/// secret.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderKey {
    /// The value of the header.
    Value(Box<[u8]>),
    /// The shared key of every request without the header, or with an empty value.
    Missing,
    /// The shared key of every request whose value is too long, or that has the header more than
    /// once. A long value is never truncated: two clients with a common prefix must not share a
    /// limit.
    Unusable,
}

impl HeaderKey {
    /// Returns the value, or `None` if the request has no usable one.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing | Self::Unusable => None,
        }
    }
}

impl From<&str> for HeaderKey {
    /// Returns the key of this value, e.g. to query a handle.
    fn from(value: &str) -> Self {
        if value.is_empty() { Self::Missing } else { Self::Value(value.as_bytes().into()) }
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "Value({} bytes)", value.len()),
            Self::Missing => f.write_str("Missing"),
            Self::Unusable => f.write_str("Unusable"),
        }
    }
}
