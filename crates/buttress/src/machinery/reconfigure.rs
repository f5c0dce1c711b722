//! The rules of a running pattern, which are read and changed while calls run.

use std::fmt;
use std::sync::Arc;

use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;

/// The shared state of a pattern whose rules can change while calls run.
pub trait Reconfigure {
    type Config;

    /// Returns the rules in force, with the name, clock and observer that the state was made with.
    fn config(&self) -> Self::Config;

    /// Checks that a state with the rules `old` can change to the rules `new`.
    ///
    /// # Errors
    /// Returns an error that names the first field of `new` that is out of its bounds, or that cannot change.
    fn accepts(old: &Self::Config, new: &Self::Config) -> Result<(), InvalidConfig>;

    /// Replaces the rules with rules that passed [`accepts`](Self::accepts). Reports nothing.
    fn apply(&self, config: &Self::Config);

    /// Serves the waiting calls that the change admits. The caller holds no lock, because this
    /// wakes tasks.
    fn serve(&self) {}

    /// Returns the name, clock and observer of the layer.
    fn common(&self) -> &Common;

    /// Serves the waiting calls that the change admits, and reports the change.
    fn announce(&self) {
        self.serve();
        self.common().reconfigured();
    }

    /// Replaces the rules with the rules of `config`. Replaces all of them or none.
    ///
    /// # Errors
    /// Returns the errors of [`accepts`](Self::accepts). Nothing changes then.
    fn reconfigure(&self, config: &Self::Config) -> Result<(), InvalidConfig> {
        Self::accepts(&self.config(), config)?;
        self.apply(config);
        self.announce();
        Ok(())
    }
}

/// A state with a handle for its operator.
pub trait HasHandle {
    type Handle: fmt::Debug;
    fn handle(self: &Arc<Self>) -> Self::Handle;
}

/// A handle of a state that can be reconfigured.
#[cfg_attr(not(feature = "serde"), expect(dead_code, reason = "only the registry asks for it"))]
pub(crate) trait Operated {
    type Shared: Reconfigure;

    fn shared(&self) -> &Self::Shared;
}

/// Makes the methods of a `Handle` that read and change its rules, and its `Debug`. The caller
/// documents the changes that `reconfigure` makes.
macro_rules! operated {
    ($(#[$reconfigure:meta])+ pub fn reconfigure(&self, config: &Config);) => {
        impl Handle {
            /// Returns the rules in force, with the name, clock and observer of the layer.
            pub fn config(&self) -> Config {
                self.shared.config()
            }

            $(#[$reconfigure])+
            pub fn reconfigure(&self, config: &Config) -> Result<(), $crate::InvalidConfig> {
                self.shared.reconfigure(config)
            }

            /// Checks whether [`reconfigure`](Self::reconfigure) would accept `config`. Changes nothing.
            ///
            /// # Errors
            /// Returns the errors of [`reconfigure`](Self::reconfigure).
            pub fn accepts(&self, config: &Config) -> Result<(), $crate::InvalidConfig> {
                Shared::accepts(&self.shared.config(), config)
            }
        }

        impl $crate::machinery::reconfigure::Operated for Handle {
            type Shared = Shared;

            fn shared(&self) -> &Shared {
                &self.shared
            }
        }

        impl std::fmt::Debug for Handle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("Handle")
                    .field("name", &self.shared.common().name)
                    .field("stats", &self.stats())
                    .finish()
            }
        }
    };
}
pub(crate) use operated;

/// Makes [`HasHandle`] of a state whose handle holds the state alone.
macro_rules! has_handle {
    () => {
        impl $crate::machinery::reconfigure::HasHandle for Shared {
            type Handle = Handle;

            fn handle(self: &std::sync::Arc<Self>) -> Handle {
                Handle { shared: self.clone() }
            }
        }
    };
}
pub(crate) use has_handle;
