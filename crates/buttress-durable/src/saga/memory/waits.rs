//! The sagas of the store that wait for a time.

use std::time::{Duration, Instant};

use super::{MemoryStore, Rows};
use crate::instant;
use crate::saga::model::entry::Status;
use crate::saga::store::{SagaId, TakeOver, TakenOver};

impl<P> Rows<P> {
    /// Sets when a saga is due: the current time as an instant and as wall time, and the length of the wait from then
    /// on. `None` for a saga that does not wait any more.
    pub(super) fn set_due(&mut self, id: SagaId, due: Option<(Instant, Duration, Duration)>) {
        let Some(row) = self.sagas.get_mut(&id) else { return };
        let number = row.number;
        match row.due.take() {
            Some(known) => drop(self.waiting.remove(&(known, number))),
            None => drop(self.unfinished.remove(&number)),
        }
        if let Some((now, at, due_in)) = due {
            let due = instant::after(now, due_in);
            row.due = Some(due);
            row.record.due_at = Some(at.saturating_add(due_in));
            self.waiting.insert((due, number), id);
        } else {
            row.record.due_at = None;
            self.unfinished.insert(number, id);
        }
    }

    /// Returns the sagas of a version of a definition that are due, the longest due first.
    fn due<'a>(
        &'a self,
        definition: &'a str,
        version: u32,
        now: Instant,
    ) -> impl Iterator<Item = SagaId> + 'a {
        let due = self.waiting.range(..=(now, u64::MAX)).map(|(_, id)| *id);
        due.filter(move |id| {
            self.sagas.get(id).is_some_and(|row| {
                (row.record.definition.as_str(), row.record.version) == (definition, version)
            })
        })
    }
}

impl<P: Clone + Send + Sync + 'static> MemoryStore<P> {
    pub(super) fn has_due_now(&self, definition: &str, version: u32) -> bool {
        let now = self.inner.clock.now();
        self.lock().due(definition, version, now).next().is_some()
    }

    pub(super) fn take_due_now(
        &self,
        TakeOver { worker, definition, version, limit }: TakeOver<'_>,
    ) -> TakenOver<P> {
        let (now, at) = (self.inner.clock.now(), self.inner.clock.unix());
        let mut rows = self.lock();
        let ids: Vec<SagaId> = rows.due(definition, version, now).take(limit).collect();
        let mut taken = TakenOver::new();
        for id in ids {
            match rows.hand_over(id, worker, at) {
                Some(Ok(mut record)) => {
                    rows.set_due(id, None);
                    if let Some(row) = rows.sagas.get_mut(&id) {
                        row.record.status = Status::Running;
                    }
                    (record.status, record.due_at) = (Status::Running, None);
                    taken.sagas.push(record);
                }
                // Meanwhile others are taken before it.
                Some(Err(why)) => {
                    rows.set_due(id, Some((now, at, Duration::from_secs(60))));
                    taken.corrupt.push((id, why));
                }
                None => {}
            }
        }
        taken
    }
}
