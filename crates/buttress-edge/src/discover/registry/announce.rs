//! [`Announcement`]: the heartbeats of an instance.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use buttress::discover::Instance;
use buttress::{Clock, InvalidConfig};
use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};

use super::client::{config, name};
use super::secret::{is_secret, refused};
use super::wire::{Record, Taken};
use crate::client::{ClientError, ServiceClient};
use crate::race::first;
use crate::upstream::Endpoint;

/// The longest time of a heartbeat.
const LIMIT: Duration = Duration::from_secs(5);
/// The first wait after a heartbeat that failed. It doubles up to the time between two heartbeats.
const FIRST: Duration = Duration::from_secs(1);
/// The time between two heartbeats until the registry has answered with its `ttl`.
const EVERY: Duration = Duration::from_secs(10);

/// The announcement of one instance to a [`Registry`](super::Registry).
///
/// ```no_run
/// use buttress_edge::discover::Announcement;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let stopped = std::future::pending();
/// let secret = std::env::var("REGISTRY_SECRET")?;
/// let announcement =
///     Announcement::new("http://10.0.0.2:8500", "orders", "orders-1", "10.0.0.7:8001")?
///         .secret(&secret)?
///         .weight(3);
/// // Once the service listens, and until it stops.
/// announcement.until(stopped).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is announced before `.until(..)` is awaited"]
pub struct Announcement {
    client: ServiceClient,
    service: String,
    id: String,
    record: Record,
    authorization: Option<HeaderValue>,
    clock: Clock,
}

impl Announcement {
    /// Creates the announcement of the instance `id` of `service` at `address`: an IP address with a port, or a URL
    /// with one. The registry at `url` decides which addresses it accepts.
    ///
    /// # Errors
    /// Returns an error if `url` is not a URL of a service, `service` or `id` is not a name of the registry, or
    /// `address` does not have this form.
    pub fn new(url: &str, service: &str, id: &str, address: &str) -> Result<Self, InvalidConfig> {
        Self::over(ServiceClient::with(url, config().attempt_limit(LIMIT))?, service, id, address)
    }

    /// Creates an announcement over your own client, e.g. with other authorities for `https`.
    ///
    /// # Errors
    /// Returns an error if `service` or `id` is not a name of the registry, or `address` is neither an IP address with
    /// a port nor a URL with one.
    pub fn over(
        client: ServiceClient,
        service: &str,
        id: &str,
        address: &str,
    ) -> Result<Self, InvalidConfig> {
        let endpoint = Endpoint::of(&Instance::at(address));
        if endpoint.ok().and_then(|endpoint| endpoint.ip()).is_none() {
            let bound = "an IP address with a port, or a URL with one";
            return Err(InvalidConfig::new("address", format!("{address:?}"), bound));
        }
        let record = Record { address: address.to_owned(), weight: 1, metadata: BTreeMap::new() };
        let (service, id) = (name("service", service)?, name("id", id)?);
        Ok(Self { client, service, id, record, authorization: None, clock: Clock::default() })
    }

    /// Sets the secret of the registry. Default: none, for a registry without secrets.
    ///
    /// # Errors
    /// Returns an error if the secret has less than 16 or more than 1024 bytes, or a byte that is not visible ASCII.
    pub fn secret(mut self, secret: &str) -> Result<Self, InvalidConfig> {
        let value = HeaderValue::try_from(format!("Bearer {secret}")).ok();
        let value = value.filter(|_| is_secret(secret));
        let mut value = value.ok_or_else(|| refused(secret.len()))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Sets the weight, from 1 to 1 000 000. Default: 1. A smaller weight counts as 1, and a larger one as 1 000 000.
    pub fn weight(mut self, weight: u32) -> Self {
        self.record.weight = weight.clamp(1, Instance::MAX_WEIGHT);
        self
    }

    /// Adds a pair of metadata.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.record.metadata.insert(key.into(), value.into());
        self
    }

    /// Sets the clock of the heartbeats. Default: tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sends heartbeats until `stop` completes, and removes the instance from the registry then.
    ///
    /// A heartbeat that fails is repeated after 1 second, and later after twice the time, up to the time between two
    /// heartbeats. The first of several failures is logged, and each one with another status than the one before. A registry
    /// that refuses every heartbeat, e.g. because of a wrong secret, does not end the future: the next secret of the
    /// registry may be the right one. The removal waits for a heartbeat that is under way, for at most 5 seconds.
    ///
    /// # Errors
    /// Returns an error if the registry did not answer the removal. The instance expires then.
    ///
    /// # Cancel safety
    /// Dropping the future ends the heartbeats, and the instance expires.
    pub async fn until(self, stop: impl Future<Output = ()>) -> Result<(), ClientError> {
        let (mut stop, mut beats) = (pin!(stop), Beats::default());
        loop {
            let mut beat = pin!(self.beat_once());
            let Some(taken) = first(beat.as_mut(), stop.as_mut()).await else {
                // A heartbeat that arrived after the removal would bring the instance back.
                first(beat.as_mut(), pin!(self.clock.sleep(LIMIT))).await;
                break;
            };
            let wait = self.clock.sleep(beats.next(taken));
            if first(pin!(wait), stop.as_mut()).await.is_none() {
                break;
            }
        }
        let remove = self.client.delete("/services/{service}/{id}");
        self.authorized(self.named(remove)).bytes().await?;
        Ok(())
    }

    async fn beat_once(&self) -> Result<Duration, ClientError> {
        let put = self.named(self.client.put("/services/{service}/{id}"));
        let taken: Taken = self.authorized(put).json_body(&self.record).json().await?;
        Ok(Duration::from_millis(taken.ttl_ms))
    }

    fn named(&self, request: Request) -> Request {
        request.param("service", &self.service).param("id", &self.id)
    }

    fn authorized(&self, request: Request) -> Request {
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }
}

/// The heartbeats that were sent.
struct Beats {
    /// The time between two heartbeats.
    every: Duration,
    /// The failures in a row, and the status of the last one.
    failures: u32,
    status: Option<StatusCode>,
}

impl Default for Beats {
    fn default() -> Self {
        Self { every: EVERY, failures: 0, status: None }
    }
}

impl Beats {
    /// Returns the wait after a heartbeat. Logs the first of several failures, and each one that has another status.
    fn next(&mut self, taken: Result<Duration, ClientError>) -> Duration {
        match taken {
            Ok(ttl) => {
                self.failures = 0;
                self.every = (ttl / 3).max(FIRST / 4);
                self.every
            }
            Err(error) => {
                let is_known = self.failures > 0 && self.status == error.status();
                self.failures = self.failures.saturating_add(1);
                self.status = error.status();
                if !is_known {
                    tracing::warn!(%error, "the registry did not accept a heartbeat");
                }
                FIRST.saturating_mul(1 << (self.failures - 1).min(8)).min(self.every)
            }
        }
    }
}

type Request = crate::client::ClientRequest<crate::client::Direct>;
