//! Lists of the sagas of the store.

use std::collections::BTreeSet;

use super::{MemoryStore, Row};
use crate::instant;
use crate::saga::model::entry::Status;
use crate::saga::store::{OVERDUE, Page, SagaId, Summary};

impl<P: Clone + Send + Sync + 'static> MemoryStore<P> {
    pub(super) fn list_now(&self, Page { status, after, limit }: Page) -> Vec<Summary> {
        let rows = self.lock();
        let wanted = |row: &&Row<P>| {
            status.is_none_or(|status| row.record.status == status)
                && after.is_none_or(|after| row.record.id > after)
        };
        let ids: BTreeSet<SagaId> =
            rows.sagas.values().filter(wanted).map(|row| row.record.id).collect();
        let found = ids.into_iter().take(limit).filter_map(|id| rows.sagas.get(&id));
        found.map(Row::summary).collect()
    }

    pub(super) fn other_versions_now(
        &self,
        definition: &str,
        known: &[u32],
        limit: usize,
    ) -> Vec<Summary> {
        let now = self.inner.clock.now();
        let rows = self.lock();
        let other = |row: &&Row<P>| {
            row.record.definition == definition && !known.contains(&row.record.version)
        };
        let unowned = rows.unfinished.values().filter_map(|id| rows.sagas.get(id)).filter(|row| {
            matches!(row.record.status, Status::Running | Status::Unwinding)
                && !rows.is_live(row.worker, now)
        });
        let overdue =
            rows.waiting.iter().take_while(|((due, _), _)| instant::after(*due, OVERDUE) <= now);
        let overdue = overdue.filter_map(|(_, id)| rows.sagas.get(id));
        unowned.chain(overdue).filter(other).take(limit).map(Row::summary).collect()
    }
}
