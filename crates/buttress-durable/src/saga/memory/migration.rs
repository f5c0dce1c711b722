//! Moves of sagas to another version of their definition.

use std::time::Duration;

use buttress::StoreError;

use super::MemoryStore;
use crate::answer::Answer;
use crate::epoch;
use crate::saga::model::entry::Status;
use crate::saga::store::{Moved, NewLog, WorkerId};

impl<P: Clone + Send + Sync + 'static> MemoryStore<P> {
    pub(super) fn migrate_now(&self, log: NewLog<P>) -> Answer<Moved> {
        let (now, at) = (self.inner.clock.now(), self.inner.clock.unix());
        let mut rows = self.lock();
        let Some(row) = rows.sagas.get(&log.saga) else { return Ok(Moved::Gone) };
        let known = &row.record;
        let next = epoch::next(log.epoch);
        if known.version == log.to && Some(known.epoch) == next {
            // The answer was lost, unless another move has come first.
            let same = known.definition == log.definition
                && self.is_same_beginning(&known.beginning, &log.beginning)
                && known.entries.len() == log.entries.len()
                && self.begins_with(known, 0, &log.entries);
            return Ok(if same { Moved::Moved } else { Moved::Changed });
        }
        if known.status.is_ended() {
            return Ok(Moved::Gone);
        }
        let is_as_loaded = (known.definition.as_str(), known.version, known.epoch, known.status)
            == (log.definition.as_str(), log.from, log.epoch, log.status)
            && (known.entries.len() as u64, known.signals) == (log.length, log.signals);
        if !is_as_loaded {
            return Ok(Moved::Changed);
        }
        let runs = matches!(known.status, Status::Running | Status::Unwinding);
        if runs && rows.is_live(row.worker, now) {
            return Ok(Moved::Owned);
        }
        let (saga, waits) = (log.saga, row.due.is_some());
        let Some(next) = next else {
            let why = format!("saga {saga}: no epoch follows epoch {}", log.epoch);
            return Err(StoreError::corrupt(why));
        };
        if let Some(row) = rows.sagas.get_mut(&saga) {
            row.worker = WorkerId::NOBODY;
            let record = &mut row.record;
            (record.version, record.epoch) = (log.to, next);
            (record.beginning, record.entries, record.times) =
                (log.beginning, log.entries, log.times);
            record.times.resize(record.entries.len(), None);
        }
        if waits {
            rows.set_due(saga, Some((now, at, Duration::ZERO)));
        }
        Ok(Moved::Moved)
    }
}
