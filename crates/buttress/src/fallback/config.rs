use crate::vocabulary::observe::{Common, common_setters};

/// The configuration of a fallback: name, clock, observer and counting. The constructors of
/// [`FallbackLayer`](super::FallbackLayer) set the answer.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Config {
    pub(super) common: Common,
}

impl Config {
    /// Creates a configuration with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    common_setters!();
}
