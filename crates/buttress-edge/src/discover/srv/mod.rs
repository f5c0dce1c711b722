//! [`Srv`]: the instances that the SRV records of a name list.

mod lookup;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use buttress::__setters as setters;
use buttress::discover::{Instance, Resolve};
use buttress::{Clock, InvalidConfig, Rng, StoreError};
use hickory_resolver::{ResolveError, TokioResolver};

use super::{check_size, pace::Pace};
use crate::race::all;
use lookup::{Addresses, Answer};
use state::Record;

/// The longest time until a target is looked up again whose addresses are not known now.
const AGAIN: Duration = Duration::from_secs(5);

/// Returns a resolver of the SRV records of a name, e.g. `_http._tcp.orders.internal`. It asks the name servers of the
/// operating system.
///
/// ```no_run
/// use buttress::balance;
/// use buttress_edge::Upstream;
/// use buttress_edge::discover::srv;
///
/// # async fn example() -> Result<(), buttress::InvalidConfig> {
/// let orders = srv("_http._tcp.orders.internal.")?;
/// let orders = Upstream::resolving(orders, balance::Config::new())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Returns an error if `name` is not a name of a service: two labels that begin with `_`, and a domain.
pub fn srv(name: &str) -> Result<Srv, InvalidConfig> {
    let bound = "a service, a protocol and a domain, e.g. _http._tcp.orders.internal";
    if !is_service(name) {
        return Err(InvalidConfig::new("srv", format!("{name:?}"), bound));
    }
    let (name, servers, pace) = (name.to_owned(), Vec::new(), Pace::default());
    Ok(Srv { name, servers, resolver: None, pace, targets: BTreeMap::new(), last: None })
}

/// Whether a name has the form `_service._protocol.domain`.
fn is_service(name: &str) -> bool {
    let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let mut is_mark =
        || labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    let is_marked = is_mark() && is_mark();
    let is_label = |label: &str| {
        let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..64).contains(&label.len()) && label.bytes().all(is_byte)
    };
    let whole = name.strip_suffix('.').unwrap_or(name);
    is_marked && labels.next().is_some() && name.len() < 255 && whole.split('.').all(is_label)
}

/// The resolver of SRV records (RFC 2782). Made by [`srv`].
///
/// Each address of a target is an instance, whose id is the address and the port. The weight of a record is divided
/// among the addresses of its target. A record of weight 0 beside others gets a hundredth of a weight of 1.
///
/// Instances are the records of one priority number: the lowest one that has a target with an address. Records of the
/// next number are used while no target of a lower number has an address. It does not matter here whether an instance
/// answers. The balancer ejects an instance that does not answer, and its priority stays.
///
/// The resolver asks again when the time to live of the answer ends: at least 1 second later, and at the latest after
/// [`every`](Self::every). A lookup that fails, finds no record, or finds only targets without an address is an error:
/// the balancer keeps its last set. The set is empty only if the name has one record, whose target is the root (`.`).
/// Such a record says that the service is not available.
///
/// If the addresses of a target cannot be looked up, e.g. because the name servers do not answer, the target keeps its
/// last addresses, and is looked up again within 5 seconds. A target loses its addresses only if a name server says
/// that it has none. A target whose addresses were never known is left out. If it is the only one of its priority, the
/// lookup is an error, and the records of the next priority are not used. More than 1000 records, or instances, are an
/// error too.
///
/// The search domains of the operating system, if it has any, complete a name without a dot at its end.
#[derive(Clone)]
#[must_use]
pub struct Srv {
    name: String,
    /// Empty for the servers of the operating system.
    servers: Vec<SocketAddr>,
    /// Made by the first lookup.
    resolver: Option<TokioResolver>,
    pace: Pace,
    /// The last addresses of the targets of the current records.
    targets: BTreeMap<String, Vec<IpAddr>>,
    last: Option<Vec<Instance>>,
}

impl Srv {
    setters! {
        /// Sets the longest time between two lookups, at least 1 second. Default: 30 seconds. Each wait is up to 10 %
        /// shorter or longer, so that many processes do not ask together.
        every(every: Duration) sets pace.every;

        /// Sets the name servers. Default: the servers of the operating system. An empty list keeps the default.
        servers(servers: impl IntoIterator<Item = SocketAddr>) => servers.into_iter().collect();

        /// Sets the clock of the waits between lookups. Default: tokio's.
        clock(clock: Clock) sets pace.clock;

        /// Sets the source of random waits. Default: a source with a different seed in every process.
        rng(rng: Rng) sets pace.rng;
    }

    fn failed(&self, what: &'static str) -> StoreError {
        StoreError::transient(what).context(&self.name)
    }

    fn resolver(&mut self) -> Result<TokioResolver, StoreError> {
        if let Some(resolver) = &self.resolver {
            return Ok(resolver.clone());
        }
        let made = lookup::resolver(&self.servers).map_err(|error| {
            self.failed("the name servers of the system are not known").with_source(error)
        })?;
        Ok(self.resolver.insert(made).clone())
    }

    /// Looks the records up, and the addresses of their targets.
    async fn look_up(&mut self) -> Result<Answer<Instance>, StoreError> {
        let resolver = self.resolver()?;
        let records = lookup::records(&resolver, &self.name).await;
        let Answer { found: records, mut valid } = records
            .map_err(|error| self.failed("the name has no record now").with_source(error))?;
        if state::is_none(&records) {
            return Ok(Answer { found: Vec::new(), valid });
        }
        check_size(records.len()).map_err(|error| error.context(&self.name))?;
        self.targets.retain(|target, _| records.iter().any(|record| record.target == *target));
        let mut why = None;
        for group in state::by_priority(records) {
            let unknown = self.look_up_targets(&resolver, &group, &mut valid, &mut why).await;
            let known: Vec<(Record, Vec<IpAddr>)> = group
                .into_iter()
                .map(|record| {
                    let addresses = self.targets.get(&record.target).cloned();
                    (record, addresses.unwrap_or_default())
                })
                .collect();
            check_size(known.iter().map(|(_, addresses)| addresses.len()).sum())
                .map_err(|error| error.context(&self.name))?;
            let found = state::instances(&known);
            if !found.is_empty() {
                return Ok(Answer { found, valid });
            }
            if let Some(unknown) = unknown {
                let failed = self.failed("the addresses of the targets cannot be looked up now");
                return Err(failed.with_source(unknown));
            }
        }
        let failed = self.failed("no target has an address now");
        Err(match why {
            Some(why) => failed.with_source(why),
            None => failed,
        })
    }

    /// Looks up the addresses of the targets of `group`, each target once. Shortens `valid`, and sets `why` to the
    /// reason of a target without an address. Returns the error of a target that could not be looked up.
    async fn look_up_targets(
        &mut self,
        resolver: &TokioResolver,
        group: &[Record],
        valid: &mut Duration,
        why: &mut Option<ResolveError>,
    ) -> Option<ResolveError> {
        // The records of a group are sorted by their targets.
        let mut targets: Vec<&str> = group.iter().map(|record| &*record.target).collect();
        targets.dedup();
        let answers = all(targets.iter().map(|target| lookup::addresses(resolver, target))).await;
        let mut unknown = None;
        for (target, answer) in targets.into_iter().zip(answers) {
            match answer {
                Addresses::Known(answer) => {
                    *valid = answer.valid.min(*valid);
                    self.targets.insert(target.to_owned(), answer.found);
                }
                Addresses::None(error) => {
                    self.targets.remove(target);
                    *why = Some(error);
                }
                Addresses::Unknown(error) => {
                    *valid = AGAIN.min(*valid);
                    unknown = Some(error);
                }
            }
        }
        unknown
    }
}

impl Resolve for Srv {
    /// Returns the instances after the first lookup, and later once they have changed.
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        loop {
            self.pace.wait().await;
            let Answer { found, valid } = self.look_up().await?;
            self.pace.found(Some(valid));
            if self.last.as_ref() != Some(&found) {
                self.last = Some(found.clone());
                return Ok(found);
            }
        }
    }
}

impl fmt::Debug for Srv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Srv")
            .field("name", &self.name)
            .field("servers", &self.servers)
            .field("every", &self.pace)
            .finish_non_exhaustive()
    }
}
