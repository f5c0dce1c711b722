//! Requests that the layer refuses before it looks their key up.

use std::fmt;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};

use crate::problem;
use crate::respond::BEARER;

/// Why an `Idempotency-Key` field holds no key.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MalformedKey {
    /// The request has the field several times.
    Repeated,
    /// The field, or the string in it, is empty.
    Empty,
    /// The value is neither a string of RFC 8941 nor an accepted bare key.
    NotAString,
    /// A key without double quotes has a space, or one of `"`, `\`, `,` and `;`.
    NeedsQuotes(char),
    /// The key is longer than [`longest_key`](super::IdempotencyKeyLayer::longest_key).
    TooLong {
        /// The length of the key in bytes.
        length: usize,
        /// The longest allowed key in bytes.
        longest: usize,
    },
}

impl fmt::Display for MalformedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated => f.write_str("the field occurs more than once, send it once"),
            Self::Empty => f.write_str("the key is empty"),
            Self::NotAString => {
                f.write_str("the key is not a string in double quotes (RFC 8941, section 3.3.3)")
            }
            Self::NeedsQuotes(character) => {
                write!(
                    f,
                    "the key has {character:?}, put it in double quotes (RFC 8941, section 3.3.3)"
                )
            }
            Self::TooLong { length, longest } => {
                write!(f, "the key has {length} bytes, at most {longest} are allowed")
            }
        }
    }
}

impl std::error::Error for MalformedKey {}

/// Why the layer refuses a request before it looks the key up. Such a request has no
/// [`buttress::Error`](buttress::Error).
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnusableRequest {
    /// The `Idempotency-Key` holds no key: 400, kind `key-invalid`.
    Malformed(MalformedKey),
    /// The body is longer than the cap, and the layer does not read it to its end: 413, kind
    /// `body-too-large`.
    TooLarge {
        /// The cap in bytes.
        cap: usize,
    },
    /// The body failed before its end: 400, kind `body-unreadable`.
    BrokenOff,
    /// The caller is unknown, and its scope is
    /// [`Scope::Unauthenticated`](super::Scope::Unauthenticated): 401 with a challenge, kind
    /// `unauthenticated`.
    Unauthenticated,
    /// The caller is unknown, and its scope is [`Scope::Unnamed`](super::Scope::Unnamed): 400, kind
    /// `principal-missing`.
    Unnamed,
}

impl UnusableRequest {
    /// Returns the status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::BrokenOff | Self::Unnamed => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Returns the kind in kebab case, as in problem documents.
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

    /// Returns the answer: a problem document, as [`Respond`](crate::Respond) makes one for a
    /// refusal. A 401 has the field `WWW-Authenticate: Bearer`. A layer sends the challenge of its
    /// [rejector](super::IdempotencyKeyLayer::reject) instead.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        self.challenging(&BEARER)
    }

    /// Returns the answer, with `challenge` in a 401.
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
                write!(
                    f,
                    "the body of a request with an Idempotency-Key may have at most {cap} bytes"
                )
            }
            Self::BrokenOff => {
                f.write_str("the body of the request ended too early, send the request again")
            }
            Self::Unauthenticated => {
                f.write_str("a request with an Idempotency-Key needs valid credentials")
            }
            Self::Unnamed => {
                f.write_str("a request with an Idempotency-Key must identify its sender")
            }
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
