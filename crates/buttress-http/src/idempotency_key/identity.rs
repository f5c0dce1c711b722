//! The identity of a request: its scoped key, and a digest of its content.

use buttress::idempotency::{Fingerprint, Identify, Identity, InvalidKey, Key};
use http::Request;
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::layer::Settings;
use super::scope::NoScope;
use super::unusable::UnusableRequest;

/// A request whose identity is found before the core asks for it.
#[derive(Debug)]
pub struct Identified<B> {
    pub(super) request: Request<B>,
    pub(super) identity: Result<Option<Identity>, InvalidKey>,
}

/// The function that returns the identity of an [`Identified`].
#[derive(Clone, Copy, Debug)]
pub struct Known;

impl<B> Identify<Identified<B>> for Known {
    fn identify(&self, request: &Identified<B>) -> Result<Option<Identity>, InvalidKey> {
        request.identity.clone()
    }
}

/// The key in the head of a request.
pub(super) enum Found {
    /// The key with its scope.
    Key(Key),
    /// The request has no key: the core decides whether it needs one.
    NoKey,
    /// The request has a key, and its scope lets it pass unprotected.
    Unprotected,
    /// The core rejects the key.
    Invalid(InvalidKey),
    /// The layer cannot use the request.
    Unusable(UnusableRequest),
}

impl Settings {
    /// Finds the key of the request with this head, with its scope.
    pub(super) fn key(&self, head: &Parts) -> Found {
        let key = match self.syntax.find(&head.headers) {
            Ok(None) => return Found::NoKey,
            Ok(Some(key)) => key,
            Err(why) => return Found::Unusable(UnusableRequest::Malformed(why)),
        };
        let scope = match (self.scope)(head).text() {
            Ok(scope) => scope,
            Err(NoScope::Unprotected) => return Found::Unprotected,
            Err(NoScope::Unauthenticated) => {
                return Found::Unusable(UnusableRequest::Unauthenticated);
            }
            Err(NoScope::Unnamed) => return Found::Unusable(UnusableRequest::Unnamed),
        };
        match Key::scoped(&scope, &key) {
            Ok(key) => Found::Key(key),
            Err(why) => Found::Invalid(why),
        }
    }
}

/// Returns the fingerprint of a request as an
/// [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer) computes it: the first half of the SHA-256
/// digest of method, path with query, and body. Each part follows its length. `None` excludes the
/// body. Every release computes the same digest.
pub fn fingerprint(head: &Parts, body: Option<&[u8]>) -> Fingerprint {
    let mut digest = Sha256::new();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let parts = [head.method.as_str().as_bytes(), path.as_bytes()];
    for part in parts.into_iter().chain(body) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let number = digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte));
    Fingerprint::new(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: u128 = 0x98a1_59ef_39e5_5d5a_6859_34f0_0ef5_c039;

    fn of(method: &str, uri: &str, body: Option<&str>) -> u128 {
        let (head, ()) = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
        fingerprint(&head, body.map(str::as_bytes)).get()
    }

    /// Stores hold the digest, so it must stay the same in every release. The value comes from
    /// another SHA-256.
    #[test]
    fn the_digest_of_a_known_request() {
        assert_eq!(of("POST", "/pay?to=7", Some("{}")), KNOWN);
        assert_eq!(of("POST", "http://host:80/pay?to=7", Some("{}")), KNOWN, "whatever the host");
    }

    #[test]
    fn every_part_counts_and_none_can_pass_for_another() {
        let all = [
            of("POST", "/a", Some("b")),
            of("PATCH", "/a", Some("b")),
            of("POST", "/", Some("b")),
            of("POST", "/a?", Some("b")),
            of("POST", "/ab", Some("")),
            of("POST", "/a", Some("")),
            of("POST", "/a", None),
            of("POST", "/ab", None),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one), "{n}");
        }
    }
}
