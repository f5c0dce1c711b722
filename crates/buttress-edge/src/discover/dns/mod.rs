//! [`Dns`]: the addresses of a name.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buttress::__setters as setters;
use buttress::discover::{Instance, Resolve};
use buttress::{Clock, InvalidConfig, Rng, StoreError};

use super::pace::Pace;

#[cfg(test)]
mod tests;

type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type Lookup = Arc<dyn Fn(String) -> Looking + Send + Sync>;

/// Returns a resolver of a host name and a port, e.g. `orders:8001`. It asks the resolver of the operating system every
/// 30 seconds.
///
/// ```no_run
/// use buttress::balance;
/// use buttress_edge::Upstream;
/// use buttress_edge::discover::dns;
///
/// # async fn example() -> Result<(), buttress::InvalidConfig> {
/// let orders = Upstream::resolving(dns("orders:8001")?, balance::Config::new())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Returns an error if `name` is not a host with a port.
pub fn dns(name: &str) -> Result<Dns, InvalidConfig> {
    let refused =
        || InvalidConfig::new("dns", format!("{name:?}"), "a host and a port, e.g. orders:8001");
    let (host, port) = name.rsplit_once(':').ok_or_else(refused)?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let is_host = !host.is_empty() && crate::host::normalize(host.as_bytes()).is_some();
    if !is_port || !is_host || host.contains(':') && !host.starts_with('[') {
        return Err(refused());
    }
    let lookup: Lookup = Arc::new(|name| {
        Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    });
    Ok(Dns { name: name.to_owned(), lookup, pace: Pace::default(), last: None })
}

/// The resolver of a host name. Made by [`dns`]. Each address is an instance, whose id is the address.
///
/// A lookup that fails, or finds no address, is an error: the balancer keeps its last set. The resolver of the
/// operating system cannot say that a name has no address, so an empty set is never returned. This resolver also
/// decides how long it caches an answer and how long it waits.
///
/// Addresses are used with `http`. A backend of `https` is verified by its name, so use it with
/// [`Upstream::fixed`](crate::Upstream::fixed), which looks the name up for each connection.
#[derive(Clone)]
#[must_use]
pub struct Dns {
    name: String,
    lookup: Lookup,
    pace: Pace,
    last: Option<BTreeSet<SocketAddr>>,
}

impl Dns {
    setters! {
        /// Sets the time between two lookups, at least 1 second. Default: 30 seconds. Each wait is up to 10 % shorter
        /// or longer, so that many processes do not ask together.
        every(every: Duration) sets pace.every;

        /// Sets the clock. Default: tokio's.
        clock(clock: Clock) sets pace.clock;

        /// Sets the source of random waits. Default: a source with a different seed in every process.
        rng(rng: Rng) sets pace.rng;
    }

    #[cfg(test)]
    fn looked_up_by(mut self, lookup: Lookup) -> Self {
        self.lookup = lookup;
        self
    }
}

impl Resolve for Dns {
    /// Returns the addresses after the first lookup, and later once they have changed.
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        loop {
            self.pace.wait().await;
            let failed =
                || StoreError::transient("the name has no address now").context(&self.name);
            let found = (self.lookup)(self.name.clone()).await;
            let found = found.map_err(|error| failed().with_source(error))?;
            let found: BTreeSet<SocketAddr> = found.into_iter().collect();
            if found.is_empty() {
                return Err(failed());
            }
            self.pace.found(None);
            if self.last.as_ref() != Some(&found) {
                let instances = found.iter().map(|address| Instance::at(address.to_string()));
                let instances = instances.collect();
                self.last = Some(found);
                return Ok(instances);
            }
        }
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("name", &self.name)
            .field("every", &self.pace)
            .finish_non_exhaustive()
    }
}
