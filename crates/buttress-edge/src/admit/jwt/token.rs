//! The parts of a token: the compact form of RFC 7515.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::why::Why;

/// The longest token in bytes. A head of a request has at most as many.
pub(super) const LONGEST: usize = 16 * 1024;

/// A token whose signature is not verified yet.
pub(super) struct Token<'t> {
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    /// The bytes that are signed.
    pub message: &'t [u8],
    pub signature: Vec<u8>,
    claims: &'t str,
}

/// The fields of a header that are read. A field that occurs twice, or has another type, is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'t> Token<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, Why> {
        if text.len() > LONGEST {
            return Err(Why::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Why::Malformed);
        };
        let message = text.as_bytes().get(..header.len() + 1 + claims.len());
        let message = message.ok_or(Why::Malformed)?;
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Why::Malformed)?;
        if header.crit.is_some() {
            return Err(Why::Critical);
        }
        // `none` is not an algorithm.
        let algorithm = header.alg.parse().map_err(|_| Why::Algorithm)?;
        let signature = decode(signature)?;
        Ok(Self { kid: header.kid, algorithm, message, signature, claims })
    }

    /// Returns the claims as JSON. The caller has verified the signature.
    pub(super) fn claims(&self) -> Result<Vec<u8>, Why> {
        decode(self.claims)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Why> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Why::Malformed)
}
