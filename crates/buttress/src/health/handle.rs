//! [`Health`]: the checks of a service, and [`Running`]: the tasks that run them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use super::check::{Check, Watch};
use super::config::Config;
use super::finding::{Finding, Group, Importance, Status};
use super::report::Report;
use super::run::supervise;
use super::shared::Shared;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;

/// The health of a service: its checks, their last results, and its status.
///
/// Cheap to clone. Clones share checks, results and the drain. See the [module](super).
///
/// Nothing runs a check until [`spawn`](Self::spawn). Until then every check is UNKNOWN, and a
/// service with a critical check is not ready.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

impl Health {
    /// Creates the health of the service `name`, with the default [`Config`] and no checks.
    ///
    /// `name` and `version` are public: the endpoints show both. An empty version is left out.
    #[must_use]
    pub fn new(name: impl Into<Name>, version: impl Into<String>) -> Self {
        Self { shared: Arc::new(Shared::new(name.into(), version.into(), Config::default())) }
    }

    /// Creates the health of the service `name`, with the times, clock and executor of `config`.
    ///
    /// # Errors
    /// Returns an error for an interval or a limit outside of its bounds.
    pub fn with(
        name: impl Into<Name>,
        version: impl Into<String>,
        config: Config,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        Ok(Self { shared: Arc::new(Shared::new(name.into(), version.into(), config)) })
    }

    /// Adds a check that runs `look`. Returns this health.
    ///
    /// `look` returns a `Result<(), E>`, whose error is DOWN, or a [`Finding`]. It must not block its
    /// thread. [`Check`] has the choice of groups.
    ///
    /// A check that is added after [`spawn`](Self::spawn), through a clone, runs immediately.
    ///
    /// ```
    /// use buttress::health::{Health, Importance};
    /// let ping = async || Err::<(), _>("connection refused");
    /// let health = Health::new("orders", "1.4.0").check("db", Importance::Critical, ping)?;
    /// let twice = health.check("db", Importance::Low, async || Ok::<(), String>(()));
    /// assert_eq!(twice.unwrap_err().to_string(), r#"check: "db" is not a name that no other check has"#);
    /// # Ok::<(), buttress::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error for a name that another check has, that is empty, longer than 128 bytes, or has a control
    /// character. No check is added then.
    pub fn check<F>(
        self,
        name: impl Into<Name>,
        importance: Importance,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Self, InvalidConfig>
    where
        F: Future<Output: Into<Finding>> + Send + 'static,
    {
        self.add_check(Check::new(name, importance, look))
    }

    /// Adds a check of a part that knows its own state, e.g. the handle of a circuit breaker or a
    /// bulkhead. Returns this health.
    ///
    /// # Errors
    /// Returns the errors of [`check`](Self::check).
    pub fn watch(
        self,
        name: impl Into<Name>,
        importance: Importance,
        part: impl Watch + 'static,
    ) -> Result<Self, InvalidConfig> {
        self.add_check(Check::watch(name, importance, part))
    }

    /// Adds a check. Returns this health.
    ///
    /// # Errors
    /// Returns the errors of [`check`](Self::check).
    pub fn add_check(self, check: Check) -> Result<Self, InvalidConfig> {
        self.shared.add(check)?;
        Ok(self)
    }

    /// Starts to run the checks on tasks of the configured executor: all of them immediately, then
    /// each one once per interval. Each check has its own task.
    ///
    /// The checks run until the returned value is dropped. If several such values exist, a check still
    /// runs once per interval.
    ///
    /// # Panics
    /// Panics with the default executor, outside of a tokio runtime.
    pub fn spawn(&self) -> Running {
        let (stop, stopped) = watch::channel(());
        self.shared.spawner().spawn(supervise(self.shared.clone(), stopped));
        Running { _stop: stop }
    }

    /// Makes the service not ready, immediately and forever. The checks continue to run.
    ///
    /// Call it when the process gets SIGTERM, wait until the platform sends no more requests, then
    /// stop the server. A drain cannot be undone: the platform may already have removed the process.
    pub fn drain(&self) {
        self.shared.decide(|state, _| state.drain());
    }

    /// Returns the status of the whole service: DOWN if a critical check is DOWN. DEGRADED if a
    /// critical or high check is otherwise not UP. UP in all other cases.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.decide(|state, now| state.status(now))
    }

    /// Returns the answer of a group. [`Group`] has the rules.
    #[must_use]
    pub fn group(&self, group: Group) -> Status {
        self.shared.decide(|state, now| state.group(group, now))
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> Name {
        self.shared.name
    }

    /// Returns the version of the service.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.shared.version
    }

    /// Returns a snapshot with the texts of errors, for operators only.
    #[must_use]
    pub fn report(&self) -> Report {
        let Shared { name, version, .. } = &*self.shared;
        self.shared.decide(|state, now| Report {
            name: *name,
            version: version.clone(),
            status: state.status(now),
            live: state.group(Group::Live, now),
            ready: state.group(Group::Ready, now),
            startup: state.group(Group::Startup, now),
            draining: state.is_draining(),
            checks: state.checks(now),
        })
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { name, version, .. } = &*self.shared;
        f.debug_struct("Health")
            .field("name", name)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

/// The tasks that run the checks of a [`Health`]. Dropping it cancels the runs in flight and ends the
/// tasks.
///
/// Keep it for as long as the service runs. The last results stay valid for three intervals after the
/// drop. Then every check is UNKNOWN.
#[must_use = "dropping it ends the checks"]
pub struct Running {
    _stop: watch::Sender<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}
