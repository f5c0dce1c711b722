//! The rules of balancers in a registry.

use std::fmt;
use std::sync::Arc;

use super::config::Config;
use super::shared::Shared;
#[cfg(feature = "serde")]
use crate::machinery::reconfigure::Operated;
use crate::machinery::reconfigure::Reconfigure as _;
use crate::vocabulary::invalid_config::InvalidConfig;

/// The rules of balancers that are not made yet, as a registry (feature `serde`) keeps them. Cheap to clone.
///
/// [`Balance::with_rules`](super::Balance::with_rules) makes a balancer with them. All balancers of one value share
/// its counters, and follow its changes.
#[derive(Clone)]
pub struct Rules {
    pub(super) shared: Arc<Shared>,
}

impl Rules {
    /// Creates the rules of `config`.
    ///
    /// # Errors
    /// Returns an error that names the first field that is out of its bounds.
    pub fn new(config: &Config) -> Result<Self, InvalidConfig> {
        Ok(Self { shared: Shared::new(config)? })
    }

    /// Returns the rules in force, with the name, clock and observer of the balancer.
    pub fn config(&self) -> Config {
        self.shared.config()
    }
}

#[cfg(feature = "serde")]
impl Operated for Rules {
    type Shared = Shared;

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("name", &self.shared.common.name).finish_non_exhaustive()
    }
}
