//! [`NoEndpoint`]: the reason of a balancer that has no endpoint for a call.

use std::fmt;

use super::Many;

/// Why a balancer has no endpoint for a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoEndpoint {
    /// The set is empty.
    Empty,
    /// Every endpoint failed to become ready.
    Failed,
    /// No endpoint became ready.
    Busy,
}

impl NoEndpoint {
    /// The largest number of endpoints that an error can carry beside the reason.
    pub(super) const NUMBER: u32 = (1 << 30) - 1;

    pub(super) fn says(packed: u32) -> Says {
        Says(packed >> 30, Many(packed & Self::NUMBER, "endpoint"))
    }
}

/// A reason, and the number of endpoints.
pub(super) struct Says(u32, Many);

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str(" has no endpoints"),
            1 => write!(f, " has {} that failed to become ready", self.1),
            _ => write!(f, " has {} and none became ready", self.1),
        }
    }
}
