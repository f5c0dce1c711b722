use crate::vocabulary::observe::{Common, common_setters};

/// Name, clock, observer and counting of a fallback. What it answers is said by the constructors of
/// [`FallbackLayer`](super::FallbackLayer).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Config {
    pub(super) common: Common,
}

impl Config {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    common_setters!();
}
