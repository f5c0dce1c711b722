//! [`Owner`]: the call that has a key.

use super::identity::Identity;
use super::store::ClaimId;

/// The call that has a key.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) identity: Identity,
    pub(super) claim: ClaimId,
    /// `true` if later calls know that a call of this process has the key.
    pub(super) listed: bool,
}
