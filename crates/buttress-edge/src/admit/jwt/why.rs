//! Why a token is refused.

/// Why a token is refused.
///
/// The texts are constants, so that nothing of a token gets into an answer or a log. They have only characters that
/// `error_description` may have (RFC 6750, 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Missing,
    MalformedField,
    TooLong,
    Malformed,
    Algorithm,
    Critical,
    UnknownKey,
    Ambiguous,
    Signature,
    Claims,
    NoExpiry,
    Date,
    Expired,
    NotYet,
    Issuer,
    Audience,
    NoSubject,
    Subject,
    /// Valid, but without a claim that the route requires.
    Claim,
    /// Valid, but without a scope that the route requires.
    Scope,
}

impl Why {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Missing => "the request has no bearer token",
            Self::MalformedField => "the request does not have exactly one bearer token",
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the algorithm of the token is not the algorithm of the key",
            Self::Critical => "the token has a critical extension",
            Self::UnknownKey => "the key of the token is unknown",
            Self::Ambiguous => "the token names no key",
            Self::Signature => "the signature is invalid",
            Self::Claims => "the claims are malformed",
            Self::NoExpiry => "the token has no expiry",
            Self::Date => "a date of the token is malformed",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the issuer is not accepted",
            Self::Audience => "the token is for another audience",
            Self::NoSubject => "the token has no subject",
            Self::Subject => "the subject is malformed",
            Self::Claim => "the token lacks a required claim",
            Self::Scope => "the token lacks a required scope",
        }
    }

    /// Whether the token is valid, and its bearer is only not allowed.
    pub(super) fn is_forbidden(self) -> bool {
        matches!(self, Self::Claim | Self::Scope)
    }
}
