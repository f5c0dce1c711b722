//! [`Owner`]: the call that has a key.

use super::identity::Identity;
use super::store::{ClaimId, KeyClaim};

/// The call that has a key.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub identity: Identity,
    pub id: ClaimId,
    /// `true` if later calls know that a call of this process has the key.
    pub listed: bool,
}

impl Owner {
    /// Creates the owner of a key that later calls do not know yet.
    #[inline]
    pub(super) const fn new(identity: Identity, id: ClaimId) -> Self {
        Self { identity, id, listed: false }
    }

    /// Returns the claim on the key.
    #[inline]
    pub(super) fn claim(&self) -> KeyClaim<'_> {
        self.identity.claimed_by(self.id)
    }
}
