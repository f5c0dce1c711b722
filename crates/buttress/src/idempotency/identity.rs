//! The identity of requests: key, scope and fingerprint.

use std::fmt;

use super::key::{Fingerprint, InvalidKey, Key};
use super::store::{ClaimId, KeyClaim};

/// The result of a closure that finds the [`Key`] of a request: a `Key`, an `Option` or a `Result` of
/// it, or both nested.
///
/// Only these types implement it:
///
/// ```compile_fail
/// use buttress::idempotency::{IntoKey, InvalidKey, Key};
/// struct Header(String);
/// impl IntoKey for Header {
///     fn into_key(self) -> Result<Option<Key>, InvalidKey> {
///         Ok(None)
///     }
/// }
/// ```
pub trait IntoKey: sealed::Sealed {
    /// Returns the key, or `None` for a request without a key.
    ///
    /// # Errors
    /// Returns an error if the key cannot be used.
    fn into_key(self) -> Result<Option<Key>, InvalidKey>;
}

mod sealed {
    use super::{InvalidKey, Key};

    pub trait Sealed {}

    impl Sealed for Key {}

    impl Sealed for Option<Key> {}

    impl Sealed for Result<Key, InvalidKey> {}

    impl Sealed for Result<Option<Key>, InvalidKey> {}

    impl Sealed for Option<Result<Key, InvalidKey>> {}
}

impl IntoKey for Key {
    fn into_key(self) -> Result<Option<Key>, InvalidKey> {
        Ok(Some(self))
    }
}

impl IntoKey for Option<Key> {
    fn into_key(self) -> Result<Option<Key>, InvalidKey> {
        Ok(self)
    }
}

impl IntoKey for Result<Key, InvalidKey> {
    fn into_key(self) -> Result<Option<Key>, InvalidKey> {
        self.map(Some)
    }
}

impl IntoKey for Result<Option<Key>, InvalidKey> {
    fn into_key(self) -> Result<Option<Key>, InvalidKey> {
        self
    }
}

impl IntoKey for Option<Result<Key, InvalidKey>> {
    fn into_key(self) -> Result<Option<Key>, InvalidKey> {
        self.transpose()
    }
}

/// The identity of a request: its key, and optionally a digest of its contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The key, which a request and its repetitions share.
    pub key: Key,
    /// The digest, which requests with the same contents share.
    pub fingerprint: Option<Fingerprint>,
}

impl Identity {
    /// Returns the claim `id` on the key.
    #[inline]
    pub(super) fn claimed_by(&self, id: ClaimId) -> KeyClaim<'_> {
        KeyClaim::new(&self.key, id).fingerprint(self.fingerprint)
    }
}

/// A function that finds the [`Identity`] of a request. Closures `Fn(&Req) -> impl IntoKey` implement
/// it, without a fingerprint.
pub trait Identify<Req> {
    /// Returns the identity of `request`. `None` for a request without a key.
    ///
    /// # Errors
    /// Returns an error if the key of the request cannot be used.
    fn identify(&self, request: &Req) -> Result<Option<Identity>, InvalidKey>;
}

impl<Req, F, O> Identify<Req> for F
where
    F: Fn(&Req) -> O,
    O: IntoKey,
{
    #[inline]
    fn identify(&self, request: &Req) -> Result<Option<Identity>, InvalidKey> {
        let key = self(request).into_key()?;
        Ok(key.map(|key| Identity { key, fingerprint: None }))
    }
}

/// An identification that adds a fingerprint.
/// [`IdempotencyLayer::fingerprint`](super::IdempotencyLayer::fingerprint) makes it.
#[derive(Clone, Copy)]
pub struct Fingerprinted<X, F> {
    pub(super) identify: X,
    pub(super) fingerprint: F,
}

impl<Req, X, F, O> Identify<Req> for Fingerprinted<X, F>
where
    X: Identify<Req>,
    F: Fn(&Req) -> O,
    O: Into<Option<Fingerprint>>,
{
    #[inline]
    fn identify(&self, request: &Req) -> Result<Option<Identity>, InvalidKey> {
        let identity = self.identify.identify(request)?;
        Ok(identity.map(|identity| Identity {
            fingerprint: (self.fingerprint)(request).into(),
            ..identity
        }))
    }
}

/// An identification that adds a scope. [`IdempotencyLayer::scope`](super::IdempotencyLayer::scope)
/// and [`scope_by`](super::IdempotencyLayer::scope_by) make it.
#[derive(Clone, Copy)]
pub struct Scoped<X, F> {
    pub(super) identify: X,
    pub(super) scope: F,
}

/// The same scope for all requests.
#[derive(Clone, Debug)]
pub struct Fixed(pub(super) String);

impl<Req, X: Identify<Req>> Identify<Req> for Scoped<X, Fixed> {
    fn identify(&self, request: &Req) -> Result<Option<Identity>, InvalidKey> {
        within(self.identify.identify(request)?, &self.scope.0)
    }
}

impl<Req, X, F, O> Identify<Req> for Scoped<X, F>
where
    X: Identify<Req>,
    F: Fn(&Req) -> O,
    O: AsRef<str>,
{
    fn identify(&self, request: &Req) -> Result<Option<Identity>, InvalidKey> {
        match self.identify.identify(request)? {
            None => Ok(None),
            identity => {
                let scope = (self.scope)(request);
                let known = identity.as_ref().is_some_and(|identity| identity.key.has_scope());
                if scope.as_ref().is_empty() && !known {
                    return Err(InvalidKey::NoScope);
                }
                within(identity, scope.as_ref())
            }
        }
    }
}

fn within(identity: Option<Identity>, scope: &str) -> Result<Option<Identity>, InvalidKey> {
    let Some(Identity { key, fingerprint }) = identity else { return Ok(None) };
    Ok(Some(Identity { key: key.within(scope)?, fingerprint }))
}

impl<X, F> fmt::Debug for Fingerprinted<X, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprinted").finish_non_exhaustive()
    }
}

impl<X, F> fmt::Debug for Scoped<X, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").finish_non_exhaustive()
    }
}
