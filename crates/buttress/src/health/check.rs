//! [`Check`]: one check of a service, and [`Watch`]: a part that has a ready-made check.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::finding::{Finding, Group, Importance};
use super::state::Identity;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;

/// The longest name of a check in bytes.
const LONGEST_NAME: usize = 128;

pub(super) type Looking = Pin<Box<dyn Future<Output = Finding> + Send>>;

/// A part that knows its own state: circuits, bulkheads, stores.
///
/// Give it to [`Health::watch`](super::Health::watch). A closure for
/// [`Health::check`](super::Health::check) does the same for any other part.
///
/// ```
/// use buttress::health::{Finding, Watch};
///
/// struct Disk {
///     free: u64,
/// }
///
/// impl Watch for Disk {
///     async fn look(&self) -> Finding {
///         if self.free > 1 << 30 { Finding::up() } else { Finding::degraded("less than 1 GiB is free") }
///     }
/// }
/// ```
pub trait Watch: Send + Sync {
    /// Finds out the current state of the part.
    ///
    /// # Cancel safety
    /// The future is dropped at the limit of the check, and when the checks end.
    fn look(&self) -> impl Future<Output = Finding> + Send;
}

/// One check of a service. [`Health::add_check`](super::Health::add_check) takes it.
#[must_use]
pub struct Check {
    pub(super) identity: Identity,
    pub(super) look: Box<dyn Fn() -> Looking + Send + Sync>,
}

impl Check {
    /// Creates a check that runs `look`. The check is in the group [`Ready`](Group::Ready), and a
    /// critical one is in [`Startup`](Group::Startup) too.
    ///
    /// `look` returns a [`Finding`], or a `Result<(), E>` whose error is DOWN. Each run calls it once.
    pub fn new<F>(
        name: impl Into<Name>,
        importance: Importance,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output: Into<Finding>> + Send + 'static,
    {
        let groups = match importance {
            Importance::Critical => vec![Group::Ready, Group::Startup],
            _ => vec![Group::Ready],
        };
        let identity = Identity { name: name.into(), importance, groups };
        let look = move || -> Looking {
            let looking = look();
            Box::pin(async move { looking.await.into() })
        };
        Self { identity, look: Box::new(look) }
    }

    /// Creates a check of a part that knows its own state. Otherwise like [`new`](Self::new).
    pub fn watch(
        name: impl Into<Name>,
        importance: Importance,
        part: impl Watch + 'static,
    ) -> Self {
        let part = std::sync::Arc::new(part);
        Self::new(name, importance, move || {
            let part = part.clone();
            async move { part.look().await }
        })
    }

    /// Sets the groups of the check, in place of the default ones. Without a group the check counts
    /// for the status of the service only.
    ///
    /// A check in [`Live`](Group::Live) makes the platform restart the process when it is DOWN. Put
    /// only a check there that a restart can fix, never one of another service.
    pub fn in_groups(mut self, groups: impl IntoIterator<Item = Group>) -> Self {
        let given: Vec<Group> = groups.into_iter().collect();
        // In the order of `ALL`, each once.
        self.identity.groups = Group::ALL.iter().copied().filter(|it| given.contains(it)).collect();
        self
    }

    pub(super) fn check_name(&self) -> Result<(), InvalidConfig> {
        let name = self.identity.name.as_str();
        let is_short = (1..=LONGEST_NAME).contains(&name.len());
        if is_short && !name.chars().any(char::is_control) {
            return Ok(());
        }
        let bound = format!("1 to {LONGEST_NAME} bytes long and free of control characters");
        Err(InvalidConfig::new("check", format!("{name:?}"), bound))
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { name, importance, groups } = &self.identity;
        let mut check = f.debug_struct("Check");
        check.field("name", name).field("importance", importance).field("groups", groups);
        check.finish_non_exhaustive()
    }
}
