//! [`Monitor`]: reports the unfinished sagas of a store to a sampler.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use buttress::telemetry::{Reading, Refresh, Source};
use buttress::{Clock, Name, StoreError};

use crate::metric_names as all;
use crate::saga::model::entry::Status;
use crate::saga::store::{Page, SagaId, Store, Summary};

/// How many sagas one query returns.
const PAGE: usize = 1000;
/// How many sagas of one status a refresh lists.
const MOST: usize = 10_000;

/// The statuses of sagas that have not ended.
const OPEN: [Status; 4] = [Status::Running, Status::Unwinding, Status::Stuck, Status::Waiting];

/// A source of the unfinished sagas of a store, for a [`Sampler`](buttress::telemetry::Sampler).
///
/// It reports how many sagas run, unwind, wait and are stuck, by definition, and the age of the oldest. A
/// refresh lists the sagas, 1000 per query. It stops at 10 000 of one status, and reports a larger
/// number as 10 000.
///
/// An age is the time for which this monitor has seen the saga in its status, by the monitor's
/// clock. A new monitor begins at zero. All processes see one store: watch it in one of them, or
/// aggregate with `max`.
pub struct Monitor<St, P> {
    layer: Name,
    store: St,
    clock: Clock,
    definitions: Vec<String>,
    seen: Mutex<Option<Seen>>,
    failed: AtomicU64,
    payload: PhantomData<fn() -> P>,
}

/// The result of the last refresh that succeeded, and when each saga was first seen in its status.
#[derive(Default)]
struct Seen {
    since: HashMap<(SagaId, u8), Instant>,
    groups: BTreeMap<(String, u8), Group>,
}

struct Group {
    sagas: u64,
    oldest: Instant,
}

impl Seen {
    /// Adds the groups of `definition`, with no sagas.
    fn report(&mut self, definition: &str, now: Instant) {
        for status in OPEN {
            let group = (definition.to_owned(), status.code());
            self.groups.entry(group).or_insert(Group { sagas: 0, oldest: now });
        }
    }

    /// Replaces the result by `found`. A saga that was seen before in the same status keeps its
    /// time. A definition whose sagas have all ended keeps its groups, with no sagas.
    fn update(&mut self, found: Vec<Summary>, now: Instant) {
        let mut since = HashMap::with_capacity(found.len());
        for group in self.groups.values_mut() {
            *group = Group { sagas: 0, oldest: now };
        }
        for saga in found {
            let code = saga.status.code();
            let seen = self.since.get(&(saga.id, code)).copied().unwrap_or(now);
            since.insert((saga.id, code), seen);
            self.report(&saga.definition, now);
            if let Some(group) = self.groups.get_mut(&(saga.definition, code)) {
                group.sagas += 1;
                group.oldest = group.oldest.min(seen);
            }
        }
        self.since = since;
    }
}

impl<St: Store<P>, P: Send + 'static> Monitor<St, P> {
    /// Creates a monitor of `store`, whose metrics have the label `layer`. `clock` measures the
    /// ages.
    pub fn new(layer: impl Into<Name>, store: St, clock: Clock) -> Self {
        let (seen, failed, payload) = (Mutex::new(None), AtomicU64::new(0), PhantomData);
        Self { layer: layer.into(), store, clock, definitions: Vec::new(), seen, failed, payload }
    }

    /// Reports `definition` from the first refresh on, also while it has no unfinished saga.
    /// Default: the monitor reports a definition once it has seen an unfinished saga of it.
    #[must_use]
    pub fn definition(mut self, definition: impl Into<String>) -> Self {
        self.definitions.push(definition.into());
        self
    }

    async fn list(&self) -> Result<Vec<Summary>, StoreError> {
        let mut found = Vec::new();
        for status in OPEN {
            let (mut after, mut seen) = (None, 0);
            while seen < MOST {
                let page = self.store.list(Page::first(PAGE).status(status).after(after)).await?;
                after = page.last().map(|saga| saga.id);
                let is_last = page.len() < PAGE;
                seen += page.len();
                found.extend(page);
                if is_last {
                    break;
                }
            }
        }
        Ok(found)
    }
}

impl<St: Store<P>, P: Send + 'static> Source for Monitor<St, P> {
    fn read(&self, reading: &mut Reading) {
        let failed = self.failed.load(Ordering::Relaxed);
        reading.add_count(&all::SAGA_REFRESH_FAILED, [self.layer.as_str()], failed);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = &*seen else { return };
        let now = self.clock.now();
        for ((definition, code), group) in &seen.groups {
            let status = Status::from_code(*code).map_or("unknown", Status::as_str);
            let labels =
                || [Cow::from(self.layer.as_str()), definition.clone().into(), status.into()];
            let age = now.saturating_duration_since(group.oldest);
            let age = if group.sagas == 0 { 0.0 } else { age.as_secs_f64() };
            reading.add_count(&all::SAGA_STORED, labels(), group.sagas);
            reading.add(&all::SAGA_OLDEST, labels(), age);
        }
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async move {
            let found = self.list().await.map_err(|error| {
                self.failed.fetch_add(1, Ordering::Relaxed);
                error.to_string()
            })?;
            let now = self.clock.now();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = seen.get_or_insert_default();
            self.definitions.iter().for_each(|definition| seen.report(definition, now));
            seen.update(found, now);
            Ok(())
        })
    }
}

impl<St, P> fmt::Debug for Monitor<St, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("layer", &self.layer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(id: u128, status: Status) -> Summary {
        let (id, definition) = (SagaId::new(id), "order".to_owned());
        Summary { id, definition, version: 1, status, epoch: 1, due_at: None }
    }

    #[test]
    fn an_age_begins_when_a_saga_is_first_seen_in_its_status() {
        let start = Clock::default().now();
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        let mut seen = Seen::default();
        let group = |seen: &Seen, status: Status| {
            let group = seen.groups.get(&("order".to_owned(), status.code()));
            group.map(|group| (group.sagas, group.oldest.duration_since(start).as_secs()))
        };
        seen.update(vec![summary(1, Status::Running), summary(2, Status::Running)], at(1));
        assert_eq!(group(&seen, Status::Running), Some((2, 1)));
        assert_eq!(group(&seen, Status::Stuck), Some((0, 1)));
        seen.update(vec![summary(2, Status::Running), summary(1, Status::Stuck)], at(5));
        assert_eq!(group(&seen, Status::Running), Some((1, 1)));
        assert_eq!(group(&seen, Status::Stuck), Some((1, 5)), "a new status begins a new age");
        seen.update(Vec::new(), at(9));
        assert_eq!(group(&seen, Status::Stuck), Some((0, 9)), "the group stays");
        assert!(seen.since.is_empty());
    }
}
