//! Lists of the sagas of the store.

use std::collections::BTreeSet;

use super::{MemoryStore, Row};
use crate::saga::model::entry::Status;
use crate::saga::store::{Page, SagaId, Summary};

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
        version: u32,
        limit: usize,
    ) -> Vec<Summary> {
        let now = self.inner.clock.now();
        let rows = self.lock();
        let found = rows.unfinished.values().filter_map(|id| rows.sagas.get(id)).filter(|row| {
            row.record.definition == definition
                && row.record.version != version
                && matches!(row.record.status, Status::Running | Status::Unwinding)
                && !rows.is_live(row.worker, now)
        });
        found.take(limit).map(Row::summary).collect()
    }
}
