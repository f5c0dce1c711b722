//! [`Redis`]: where Redis is.

use std::fmt;
use std::time::Duration;

use buttress::Clock;

use crate::error::Error;
use crate::link::Link;

/// The address of a Redis server, and how long to wait for it. Cheap to clone.
///
/// It opens no connection. Each publisher, source, limiter and store has its own.
#[derive(Clone)]
#[must_use]
pub struct Redis {
    client: redis::Client,
    clock: Clock,
    limit: Duration,
}

impl Redis {
    /// Reads an address such as `redis://user:password@host:6379/0`. The scheme `rediss` is TLS, with the feature
    /// `tls`.
    ///
    /// # Errors
    /// Returns [`Error::Address`] if `url` is not an address.
    pub fn new(url: &str) -> Result<Self, Error> {
        let client = redis::Client::open(url).map_err(|source| Error::Address { source })?;
        Ok(Self { client, clock: Clock::default(), limit: Duration::from_secs(5) })
    }

    /// Sets how long an operation may take, connecting included. Default: 5 seconds. Zero counts as 1 ms.
    ///
    /// After that it is unknown whether the operation took effect. A rate limiter has its own limit.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit: limit.max(Duration::from_millis(1)), ..self }
    }

    /// Sets the clock of waits and leases. Default: tokio's clock.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    pub(crate) const fn the_clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(self.client.clone(), self.clock.clone(), self.limit)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client would show the password.
        let address = self.client.get_connection_info().addr().to_string();
        f.debug_struct("Redis").field("address", &address).finish_non_exhaustive()
    }
}
