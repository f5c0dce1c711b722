//! [`RegistryClient`]: the resolver of a service that a [`Registry`](super::Registry) knows.

use std::time::{Duration, Instant};

use buttress::discover::{Instance, Resolve};
use buttress::{Clock, InvalidConfig, StoreError};
use http::StatusCode;

use super::wire::{Page, is_name};
use crate::client::{Config, ServiceClient};

/// The wait that the client asks for, in seconds.
const WAIT: u64 = 30;
/// The limit of a request: its wait, and the way.
const LIMIT: Duration = Duration::from_secs(WAIT + 5);
/// The shortest time from one question to the next. A registry that does not wait, or has a new version in each answer,
/// is asked once in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns a client of the registry at `url`, e.g. `http://10.0.0.2:8500`, for the instances of `service`.
///
/// ```no_run
/// use buttress::balance;
/// use buttress_edge::Upstream;
/// use buttress_edge::discover::registry_client;
///
/// # async fn example() -> Result<(), buttress::InvalidConfig> {
/// let orders = registry_client("http://10.0.0.2:8500", "orders")?;
/// let orders = Upstream::resolving(orders, balance::Config::new())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Returns an error if `url` is not a URL of a service, or `service` is not a name of the registry.
pub fn registry_client(url: &str, service: &str) -> Result<RegistryClient, InvalidConfig> {
    RegistryClient::over(ServiceClient::with(url, config())?, service)
}

/// The configuration of a client of a registry. The balancer repeats a failed request.
pub(crate) fn config() -> Config {
    Config::new().no_retry().no_circuit_breaker().time_limit(LIMIT).attempt_limit(LIMIT)
}

/// The resolver of a service that a [`Registry`](super::Registry) knows. Made by [`registry_client`].
///
/// It waits at the registry for a change. While the registry cannot be reached, or does not know the instances yet, it
/// fails, and the balancer keeps its last set.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    client: ServiceClient,
    service: String,
    clock: Clock,
    /// The version of the last set.
    version: Option<String>,
    /// When the registry was last asked.
    asked: Option<Instant>,
}

impl RegistryClient {
    /// Creates a resolver over your own client, e.g. with other authorities for `https`. Its time limits must be longer
    /// than 30 seconds: the registry answers after that time if nothing changes.
    ///
    /// # Errors
    /// Returns an error if `service` is not a name of the registry.
    pub fn over(client: ServiceClient, service: &str) -> Result<Self, InvalidConfig> {
        let service = name("service", service)?;
        Ok(Self { client, service, clock: Clock::default(), version: None, asked: None })
    }

    /// Sets the clock of the pauses between questions, at least 1 second from one to the next. Default: tokio's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    async fn ask(&self) -> Result<Page, StoreError> {
        let request = self.client.get("/services/{service}").param("service", &self.service);
        let request = match &self.version {
            Some(version) => request.query("version", version).query("wait", WAIT),
            None => request,
        };
        request.json().await.map_err(|error| {
            StoreError::transient(match error.status() {
                Some(StatusCode::SERVICE_UNAVAILABLE) => "the registry knows no set now",
                _ => "the registry does not answer with a set",
            })
            .context(&self.service)
            .with_source(error)
        })
    }
}

impl Resolve for RegistryClient {
    /// Returns the set once the registry knows it, and later once it has changed.
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        loop {
            if let Some(due) = self.asked.and_then(|asked| asked.checked_add(PAUSE)) {
                self.clock.sleep_until(due).await;
            }
            self.asked = Some(self.clock.now());
            let Page { version, instances } = self.ask().await?;
            if self.version.as_ref() != Some(&version) {
                self.version = Some(version);
                return Ok(instances.into_iter().map(Instance::from).collect());
            }
        }
    }
}

/// Checks the name of a service or an id.
pub(super) fn name(field: &'static str, text: &str) -> Result<String, InvalidConfig> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    let bound = "1 to 128 letters, digits, dots, underscores and hyphens";
    Err(InvalidConfig::new(field, format!("{text:?}"), bound))
}
