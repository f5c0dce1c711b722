//! [`Registry`]: instances announce themselves over HTTP, and balancers wait for changes.

use buttress::__setters as setters;

mod announce;
mod answers;
mod client;
mod secret;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod wire;

pub use announce::Announcement;
#[cfg(feature = "document")]
pub(crate) use client::config as registry_config;
pub use client::{RegistryClient, registry_client};
pub use service::{RegistryService, RegistryStats};

use std::time::Duration;

use buttress::{Clock, InvalidConfig};
use buttress_http::context::Trust;

use secret::Secrets;
use state::Rules;

/// The bounds of a registry's [`ttl`](Registry::ttl).
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// A registry of instances, for services on networks without DNS or an orchestrator. It keeps them in memory.
///
/// [`into_service`](Self::into_service) makes it a tower service, for [`serve`](crate::serve()) or a router.
/// An [`Announcement`] sends the heartbeats of an instance, and [`registry_client`] is the
/// [resolver](buttress::discover::Resolve) of a balancer.
///
/// ```no_run
/// use buttress_edge::discover::Registry;
/// use buttress_edge::serve;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::new()
///     .admit(&std::env::var("REGISTRY_SECRET")?)
///     .networks(["10.0.0.0/8"])?
///     .into_service()?;
/// let listener = tokio::net::TcpListener::bind("10.0.0.2:8500").await?;
/// serve(listener, registry).await;
/// # Ok(())
/// # }
/// ```
///
/// | request | answer |
/// |---|---|
/// | `PUT /services/{name}/{id}` with `{"address":"10.0.0.1:8001"}`, and perhaps `weight` and `metadata` | 200 with `{"ttl_ms":30000}`; it is a heartbeat too |
/// | `DELETE /services/{name}/{id}` | 204, also if there is no such instance |
/// | `GET /services/{name}/{id}` | 200 with the instance; 404 |
/// | `GET /services/{name}` | 200 with `{"version":"..","instances":[..]}`; 503 while the instances are not yet known |
/// | `GET /services/{name}?version=..&wait=30` | the set, once its version is another one, or after `wait` seconds, at most 30 |
///
/// Names and ids have 1 to 128 bytes of `[A-Za-z0-9._-]`. There are at most 1 000 services with 1 000 instances each,
/// bodies of 4 KiB, and 1 000 requests that wait, at most [256 per address](Self::waits_per_address). All instances
/// together take at most 64 MiB: the bytes of their texts, 64 more for each pair of metadata, and 256 more for each
/// instance. Requests beyond these bounds are answered with 400, 413 or 429.
///
/// # Expiry
///
/// An instance without a heartbeat for one [`ttl`](Self::ttl) expires. If at least 3 instances, and more than 15 % of
/// their service, stop together, the network to the registry has probably failed and not the instances. Each of these
/// instances then stays for three times the `ttl` after its last heartbeat.
///
/// A registry that has just started does not know which instances exist. Until one `ttl` after its start it answers
/// 503, so that balancers keep their sets. Instances announce themselves again with their next heartbeat.
///
/// One process is the registry. While the registry is unavailable, balancers keep the last set.
#[derive(Clone, Debug)]
#[must_use]
pub struct Registry {
    ttl: Duration,
    secrets: Secrets,
    is_open: bool,
    networks: Option<Trust>,
    waits_per_address: usize,
    clock: Clock,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// Creates a registry that no instance may write to yet: see [`admit`](Self::admit).
    pub fn new() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            secrets: Secrets::default(),
            is_open: false,
            networks: None,
            waits_per_address: 256,
            clock: Clock::default(),
        }
    }

    /// Sets the time without a heartbeat after which an instance expires, from 1 second to 1 hour. Default: 30 seconds.
    /// Instances send a heartbeat three times in this time, so that two can be lost.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Admits writers that send `Authorization: Bearer` with this secret. Several secrets can be valid, so that they
    /// can be exchanged. Reading needs none.
    ///
    /// The secret is kept as SHA-256 and compared in constant time. It must be random, with 16 to 1024 visible ASCII
    /// bytes: [`into_service`](Self::into_service) refuses others.
    pub fn admit(mut self, secret: &str) -> Self {
        self.secrets.add(secret);
        self
    }

    /// Lets every client that reaches the registry write to it. Such a client can redirect the traffic of a service.
    pub fn open_to_everyone(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Sets the networks that addresses of instances must be in, e.g. `10.0.0.0/8`. Default: an instance can announce
    /// only the address that its own request comes from.
    ///
    /// # Errors
    /// Returns an error if a text is not a network.
    pub fn networks<N: AsRef<str>>(
        mut self,
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidConfig> {
        // An address is allowed as if it were a peer.
        let networks = Trust::gateways(networks)
            .map_err(|error| InvalidConfig::new("networks", error.value(), error.bound()))?;
        self.networks = Some(networks);
        Ok(self)
    }

    setters! {
        /// Sets how many requests of one address may wait for a change at the same time, at least 1. Default: 256, so
        /// that one client cannot take all 1 000 places. IPv6 addresses count by their first 64 bits, and requests
        /// without the extension [`PeerAddr`](buttress_http::client_key::PeerAddr) share one count. Behind a proxy all
        /// clients have its address: set 1 000 there.
        waits_per_address(requests: usize);

        /// Sets the clock of heartbeats and waits. Default: tokio's.
        clock(clock: Clock);
    }

    /// Makes the registry a service. It starts now.
    ///
    /// # Errors
    /// Returns an error if neither [`admit`](Self::admit) nor [`open_to_everyone`](Self::open_to_everyone) was called,
    /// or both were. Also returns an error if a secret is too short, or if the `ttl` or the number of waits is out of its
    /// bounds.
    pub fn into_service(self) -> Result<RegistryService, InvalidConfig> {
        if !(SHORTEST..=LONGEST).contains(&self.ttl) {
            let value = format!("{:?}", self.ttl);
            return Err(InvalidConfig::new("ttl", value, "1 second to 1 hour"));
        }
        if self.waits_per_address == 0 {
            return Err(InvalidConfig::new("waits-per-address", 0, "at least 1"));
        }
        self.secrets.check()?;
        let stated = match (self.secrets.is_empty(), self.is_open) {
            (true, true) | (false, false) => None,
            (true, false) => Some("nothing"),
            (false, true) => Some("`.admit(..)` and `.open_to_everyone()`"),
        };
        if let Some(stated) = stated {
            let bound = "stated: call either `.admit(secret)` or `.open_to_everyone()`";
            return Err(InvalidConfig::new("admit", stated, bound));
        }
        let rules = Rules {
            ttl: self.ttl,
            longest: self.ttl * 3,
            max_services: 1000,
            max_instances: 1000,
            max_bytes: 64 * 1024 * 1024,
        };
        Ok(RegistryService::new(self, rules))
    }
}
