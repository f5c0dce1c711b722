use std::fmt;
use std::time::Duration;

use super::config::Config;
use super::list::Append;
use super::part::{Optional, Required};
use super::service::Aggregate;
use super::shared::{Definition, Shared};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;

/// The definition of an aggregate, part by part. [`Aggregate::builder`] makes it.
///
/// `P` is the tuple of its parts.
#[must_use]
pub struct Builder<P> {
    parts: P,
    definitions: Vec<Definition>,
    config: Config,
}

impl Builder<()> {
    pub(super) fn new() -> Self {
        let config = Config::new();
        Self { parts: (), definitions: Vec::new(), config }
    }
}

impl<P> Builder<P> {
    /// Adds a part without which there is no answer. Its error is the error of the aggregate.
    ///
    /// `name` has 1 to 64 letters, digits and `.`, `_` or `-`. If several parts are required, the error of the
    /// aggregate is the error of the last of them, and the errors of the others must convert into it. Otherwise add
    /// `.map_err(BoxError::from)` to their services.
    pub fn required<S>(self, name: impl Into<Name>, service: S) -> Builder<P::Longer>
    where
        P: Append<Required<S>>,
    {
        self.with(name.into(), true, Required(service))
    }

    /// Adds a part that may be missing. The answer then says why. The error type of `service` is free.
    ///
    /// `name` has 1 to 64 letters, digits and `.`, `_` or `-`.
    pub fn optional<S>(self, name: impl Into<Name>, service: S) -> Builder<P::Longer>
    where
        P: Append<Optional<S>>,
    {
        self.with(name.into(), false, Optional(service))
    }

    fn with<T>(self, name: Name, required: bool, part: T) -> Builder<P::Longer>
    where
        P: Append<T>,
    {
        let Self { parts, mut definitions, config } = self;
        definitions.push(Definition { name, required });
        Builder { parts: parts.append(part), definitions, config }
    }

    /// Sets how long a call may take. Default: 2 seconds. Short for [`config`](Self::config) with [`Config::within`].
    pub fn within(mut self, limit: Duration) -> Self {
        self.config = self.config.within(limit);
        self
    }

    /// Sets the configuration. Default: [`Config::new`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Makes the aggregate.
    ///
    /// # Errors
    /// Returns an error if there are no parts, and for a name that is out of its bounds or used by two parts, or a
    /// limit of zero or more than 365 days.
    pub fn build(self) -> Result<Aggregate<P>, InvalidConfig> {
        let shared = Shared::new(&self.config, &self.definitions)?;
        Ok(Aggregate::from_parts(self.parts, shared))
    }
}

impl<P> fmt::Debug for Builder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("parts", &self.definitions).finish_non_exhaustive()
    }
}
