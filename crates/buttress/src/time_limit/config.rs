use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::{InvalidConfig, check_duration};
use crate::vocabulary::observe::{Common, common_setters};

/// A callback that is called with each timeout.
pub(super) type Hook = Arc<dyn Fn(&Error) + Send + Sync>;

/// The configuration of a time limit.
///
/// Setters take the configuration by value. The constructor of the layer checks it.
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[must_use]
pub struct Config {
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) limit: Duration,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) on_timeout: Option<Hook>,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) common: Common,
}

#[cfg(feature = "serde")]
impl Default for Config {
    /// Creates a limit of 30 seconds, for a configuration file without `limit`.
    fn default() -> Self {
        Self::new(Duration::from_secs(30))
    }
}

impl Config {
    /// Creates a configuration that lets a call take `limit`, counted from `call`. There is no
    /// default, because only you know how long your callers wait. Longer than zero, at most 365
    /// days.
    pub fn new(limit: Duration) -> Self {
        Self { limit, on_timeout: None, common: Common::default() }
    }

    /// Sets a callback for timeouts. The layer calls it after it has dropped the call. Default:
    /// none. The callback should be quick and must not panic.
    pub fn on_timeout(mut self, hook: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_timeout = Some(Arc::new(hook));
        self
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        check_duration("limit", self.limit)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("limit", &self.limit).finish_non_exhaustive()
    }
}
