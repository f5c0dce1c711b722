//! The decisions of a registry: which instances exist, and when they expire. Nothing here reads time.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::wire::Record;

/// The bounds of a registry.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// An instance without a heartbeat for this time expires.
    pub ttl: Duration,
    /// Instances that stop together expire after this time without a heartbeat.
    pub longest: Duration,
    pub max_services: usize,
    pub max_instances: usize,
    /// The most bytes of all instances together, as [`weight`] counts them.
    pub max_bytes: usize,
}

impl Rules {
    /// The age at which an instance has missed a heartbeat. An instance sends three heartbeats per `ttl`.
    fn late(&self) -> Duration {
        self.ttl * 2 / 3
    }
}

/// Fewer instances than these expire one by one. More of them, and more than [`SHARE`] of a service, are protected.
const FEWEST: usize = 3;
/// In percent.
const SHARE: usize = 15;

/// Why an instance cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    Services,
    Instances,
    Bytes,
}

/// The version of a service's set. Every change of any set makes a greater one.
pub(super) type Version = u64;

/// The set of a service, as callers get it. All callers share it: they are many, and it can be large.
#[derive(Debug)]
pub(super) struct Set {
    pub version: Version,
    pub instances: Vec<(Arc<str>, Arc<Record>)>,
    /// The set as an answer, once a caller has asked for it.
    pub page: OnceLock<Bytes>,
}

/// All instances.
#[derive(Debug)]
pub(super) struct State {
    rules: Rules,
    /// Until then instances that exist may not have sent a heartbeat.
    known_at: Instant,
    services: BTreeMap<String, Service>,
    version: Version,
    /// The weight of all instances.
    bytes: usize,
    /// The set of a service without instances.
    none: Arc<Set>,
}

#[derive(Debug, Default)]
struct Service {
    version: Version,
    instances: BTreeMap<Arc<str>, Entry>,
    /// The set of this version, once a caller has asked for it.
    set: Option<Arc<Set>>,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// The last heartbeat.
    beat: Instant,
    weight: usize,
}

/// Returns the memory that an instance takes, in bytes: its texts, and a part for each text and each pair.
fn weight(id: &str, record: &Record) -> usize {
    let pair = |(key, value): (&String, &String)| key.len() + value.len() + 64;
    256 + id.len() + record.address.len() + record.metadata.iter().map(pair).sum::<usize>()
}

impl State {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        let none = Set { version: 0, instances: Vec::new(), page: OnceLock::new() };
        Self {
            known_at: now + rules.ttl,
            rules,
            services: BTreeMap::new(),
            version: 0,
            bytes: 0,
            none: Arc::new(none),
        }
    }

    /// Adds an instance, or takes a heartbeat of it. Returns whether the set has changed.
    pub(super) fn put(
        &mut self,
        now: Instant,
        service: &str,
        id: &str,
        record: Record,
    ) -> Result<bool, Full> {
        let known = self.services.get_mut(service).and_then(|it| it.instances.get_mut(id));
        let mut changed = match known {
            Some(entry) if *entry.record == record => {
                entry.beat = now;
                false
            }
            Some(entry) => {
                let (weight, before) = (weight(id, &record), entry.weight);
                self.make_room(now, weight, before)?;
                self.replace(service, id, Entry { record: Arc::new(record), beat: now, weight });
                true
            }
            None => {
                self.expire(now, service);
                self.insert(now, service, id, record)?;
                true
            }
        };
        if changed {
            self.touch(service);
        }
        // The heartbeat can end the protection of others.
        changed |= self.expire(now, service);
        Ok(changed)
    }

    fn insert(
        &mut self,
        now: Instant,
        service: &str,
        id: &str,
        record: Record,
    ) -> Result<(), Full> {
        let Rules { max_services, max_instances, .. } = self.rules;
        let has_room = |state: &Self| {
            state.services.contains_key(service) || state.services.len() < max_services
        };
        if !has_room(self) {
            self.expire_all(now);
            if !has_room(self) {
                return Err(Full::Services);
            }
        }
        let present = self.services.get(service).map_or(0, |present| present.instances.len());
        if present >= max_instances {
            return Err(Full::Instances);
        }
        let weight = weight(id, &record);
        self.make_room(now, weight, 0)?;
        self.replace(service, id, Entry { record: Arc::new(record), beat: now, weight });
        Ok(())
    }

    /// Finds out whether an instance of `weight` fits in place of one of `before`, if need be without the instances that
    /// have expired.
    fn make_room(&mut self, now: Instant, weight: usize, before: usize) -> Result<(), Full> {
        let has_room =
            |state: &Self| (state.bytes + weight).saturating_sub(before) <= state.rules.max_bytes;
        if has_room(self) {
            return Ok(());
        }
        self.expire_all(now);
        if has_room(self) { Ok(()) } else { Err(Full::Bytes) }
    }

    /// Puts an entry at its place.
    fn replace(&mut self, service: &str, id: &str, entry: Entry) {
        let instances = &mut self.services.entry(service.to_owned()).or_default().instances;
        self.bytes += entry.weight;
        let before = instances.insert(id.into(), entry);
        self.bytes -= before.map_or(0, |before| before.weight);
    }

    /// Gives the set of a service a new version.
    fn touch(&mut self, service: &str) {
        self.version += 1;
        if let Some(service) = self.services.get_mut(service) {
            service.version = self.version;
            service.set = None;
        }
    }

    /// Removes an instance. Returns whether a set has changed.
    pub(super) fn remove(&mut self, now: Instant, service: &str, id: &str) -> bool {
        let known = self.services.get_mut(service).and_then(|it| it.instances.remove(id));
        if let Some(entry) = &known {
            self.bytes -= entry.weight;
            self.touch(service);
        }
        // The end of one can end the protection of others, and empties its service.
        self.expire(now, service) || known.is_some()
    }

    /// Returns the set of a service, or how long it is not yet known.
    pub(super) fn set(&mut self, now: Instant, service: &str) -> Result<Arc<Set>, Duration> {
        if now < self.known_at {
            return Err(self.known_at - now);
        }
        self.expire(now, service);
        let Some(present) = self.services.get_mut(service) else {
            return Ok(Arc::clone(&self.none));
        };
        Ok(Arc::clone(present.set.get_or_insert_with(|| {
            let instances = present
                .instances
                .iter()
                .map(|(id, entry)| (Arc::clone(id), Arc::clone(&entry.record)));
            let instances = instances.collect();
            Arc::new(Set { version: present.version, instances, page: OnceLock::new() })
        })))
    }

    /// Returns the version of a service's set. It reads no time, so an instance that has expired since counts.
    pub(super) fn version(&self, service: &str) -> Version {
        self.services.get(service).map_or(0, |service| service.version)
    }

    /// Returns an instance.
    pub(super) fn instance(
        &mut self,
        now: Instant,
        service: &str,
        id: &str,
    ) -> Option<Arc<Record>> {
        self.expire(now, service);
        Some(Arc::clone(&self.services.get(service)?.instances.get(id)?.record))
    }

    /// Returns how many services and instances there are.
    pub(super) fn counts(&mut self, now: Instant) -> (usize, usize) {
        self.expire_all(now);
        let instances = self.services.values().map(|service| service.instances.len()).sum();
        (self.services.len(), instances)
    }

    /// Removes the instances of a service that have expired, and the service if none is left. Returns whether there
    /// were any. A service that no caller asks about keeps its instances, up to its bound.
    fn expire(&mut self, now: Instant, name: &str) -> bool {
        let Some(service) = self.services.get_mut(name) else { return false };
        let changed = match service.expire(now, &self.rules) {
            None => false,
            Some(freed) => {
                self.bytes -= freed;
                true
            }
        };
        if service.instances.is_empty() {
            self.services.remove(name);
        } else if changed {
            self.touch(name);
        }
        changed
    }

    fn expire_all(&mut self, now: Instant) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            self.expire(now, &name);
        }
    }

    /// Returns when the set of a service can change next if no heartbeat comes.
    pub(super) fn next_expiry(&self, now: Instant, service: &str) -> Option<Instant> {
        let service = self.services.get(service)?;
        let first = service.instances.values().map(|entry| entry.beat).min()?;
        let due = first + self.rules.ttl;
        // One that is overdue and still there is protected.
        Some(if due > now { due } else { first + self.rules.longest })
    }
}

impl Service {
    /// Whether too many instances stopped together for it to be a common end.
    fn is_protected(&self, now: Instant, rules: &Rules) -> bool {
        let age = |entry: &&Entry| now.saturating_duration_since(entry.beat);
        let late = self.instances.values().filter(|entry| age(entry) >= rules.late()).count();
        late >= FEWEST && late * 100 > SHARE * self.instances.len()
    }

    /// Removes the instances that have expired, and returns their weight. `None` if there are none.
    fn expire(&mut self, now: Instant, rules: &Rules) -> Option<usize> {
        let (before, mut freed) = (self.instances.len(), 0);
        loop {
            let present = self.instances.len();
            let limit = if self.is_protected(now, rules) { rules.longest } else { rules.ttl };
            self.instances.retain(|_, entry| {
                let stays = now.saturating_duration_since(entry.beat) < limit;
                freed += if stays { 0 } else { entry.weight };
                stays
            });
            // The end of one can end the protection of the rest.
            if self.instances.len() == present {
                return (present != before).then_some(freed);
            }
        }
    }
}
