//! Requests that are refused before their key is looked up.

use std::fmt;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};

use crate::problem;
use crate::respond::BEARER;

/// Why an `Idempotency-Key` field holds no key.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MalformedKey {
    /// The request has several of the field.
    Repeated,
    /// The field, or the string in it, is empty.
    Empty,
    /// It is no string of RFC 8941, nor a bare key where that is taken.
    NotAString,
    /// The key is longer than [`longest_key`](super::IdempotencyKeyLayer::longest_key).
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// What is allowed.
        longest: usize,
    },
}

impl fmt::Display for MalformedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated => f.write_str("the field is there more than once"),
            Self::Empty => f.write_str("it is empty"),
            Self::NotAString => {
                f.write_str("it is not a string in double quotes (RFC 8941, section 3.3.3)")
            }
            Self::TooLong { length, longest } => {
                write!(f, "it has {length} bytes, at most {longest} are allowed")
            }
        }
    }
}

impl std::error::Error for MalformedKey {}

/// A request that is refused before its key is looked up, and so without a
/// [`buttress::Error`](buttress::Error).
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnusableRequest {
    /// Its `Idempotency-Key` holds no key: 400, kind `key-invalid`.
    Malformed(MalformedKey),
    /// Its body is longer than the cap in bytes, and is not read to its end: 413, kind
    /// `body-too-large`.
    TooLarge {
        /// The cap.
        cap: usize,
    },
    /// Its body broke off: 400, kind `body-unreadable`.
    BrokenOff,
    /// It is unknown who sent it, as [`Scope::Unauthenticated`](super::Scope::Unauthenticated) said: 401 with a
    /// challenge, kind `unauthenticated`.
    Unauthenticated,
    /// It is unknown who sent it, as [`Scope::Unnamed`](super::Scope::Unnamed) said: 400, kind
    /// `principal-missing`.
    Unnamed,
}

impl UnusableRequest {
    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::BrokenOff | Self::Unnamed => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The kind in kebab case, as problem documents name it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "key-invalid",
            Self::TooLarge { .. } => "body-too-large",
            Self::BrokenOff => "body-unreadable",
            Self::Unauthenticated => "unauthenticated",
            Self::Unnamed => "principal-missing",
        }
    }

    /// The answer: a problem document, as [`Respond`](crate::Respond) makes them of refusals. A 401 has the
    /// field `WWW-Authenticate: Bearer`. A layer sends the challenge of its
    /// [rejector](super::IdempotencyKeyLayer::reject) instead.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        self.challenging(&BEARER)
    }

    /// The answer, with `challenge` in a 401.
    pub(super) fn challenging(&self, challenge: &HeaderValue) -> Response<String> {
        let document =
            problem::Document { detail: &self.to_string(), kind: self.kind(), retry_after: None };
        let mut response = problem::response(self.status(), &document);
        if self.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge.clone());
        }
        response
    }
}

impl fmt::Display for UnusableRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the Idempotency-Key is malformed: {why}"),
            Self::TooLarge { cap } => {
                write!(f, "the body of a request with an Idempotency-Key may have {cap} bytes")
            }
            Self::BrokenOff => f.write_str("the body of the request broke off"),
            Self::Unauthenticated => {
                f.write_str("a request with an Idempotency-Key needs valid credentials")
            }
            Self::Unnamed => f.write_str("a request with an Idempotency-Key must say who sends it"),
        }
    }
}

impl std::error::Error for UnusableRequest {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(why) => Some(why),
            Self::TooLarge { .. } | Self::BrokenOff | Self::Unauthenticated | Self::Unnamed => None,
        }
    }
}
