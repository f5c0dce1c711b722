//! The secrets of writers.

use std::fmt;

use buttress::InvalidConfig;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The lengths of a secret in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;

/// Whether a text can be a secret.
pub(super) fn is_secret(text: &str) -> bool {
    LENGTHS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns the error of a text that cannot be a secret. It omits the text.
pub(super) fn refused(length: usize) -> InvalidConfig {
    let value = format!("a text of {length} bytes");
    InvalidConfig::new("admit", value, "16 to 1024 visible ASCII bytes")
}

/// The secrets that admit writers, as SHA-256.
#[derive(Clone, Default)]
pub(super) struct Secrets {
    digests: Vec<[u8; 32]>,
    /// The length of the first text that cannot be a secret.
    refused: Option<usize>,
}

impl Secrets {
    pub(super) fn add(&mut self, secret: &str) {
        if is_secret(secret) {
            self.digests.push(Sha256::digest(secret).into());
        } else {
            self.refused.get_or_insert(secret.len());
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.refused.map_or(Ok(()), |length| Err(refused(length)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether a request has one of the secrets. The time does not depend on which one, or on how much of it is right.
    pub(super) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return false };
        let Some((scheme, given)) = field.to_str().ok().and_then(|field| field.split_once(' '))
        else {
            return false;
        };
        let given: [u8; 32] = Sha256::digest(given).into();
        let is_known = self.digests.iter().map(|digest| digest.ct_eq(&given));
        let is_known = is_known.fold(Choice::from(0), |any, one| any | one);
        scheme.eq_ignore_ascii_case("bearer") && bool::from(is_known)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("count", &self.digests.len()).finish_non_exhaustive()
    }
}
