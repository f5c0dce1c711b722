//! Results of deliveries that the store refuses to record.

use super::Pending;
use crate::outbox::config::HeadOfKey;
use crate::outbox::message::MessageId;
use crate::outbox::store::{Settled, Verdict};

/// With this many results set aside, the relay fetches no more.
const MOST_ASIDE: usize = 100;

impl Pending {
    /// Sets aside the first of [`settled`](Self::settled), which the store refuses to record. Its
    /// key continues or is held, as behind a message that has used up its attempts.
    pub(in crate::outbox) fn set_aside(&mut self, policy: HeadOfKey) -> Option<Settled> {
        if self.settled.is_empty() {
            return None;
        }
        let settled = self.settled.remove(0);
        self.held.remove(&settled.id);
        self.failing.remove(&settled.key);
        match policy {
            HeadOfKey::Block => {
                self.failing.insert(settled.key.clone());
                self.forget_queue(&settled.key);
            }
            // Messages behind a dead letter wait until the store has recorded it.
            HeadOfKey::Continue if matches!(settled.verdict, Verdict::Dead { .. }) => {
                self.next_of(&settled.key);
            }
            HeadOfKey::Continue => {}
        }
        self.aside.insert(settled.id, settled.clone());
        Some(settled)
    }

    pub(in crate::outbox) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    pub(in crate::outbox) fn aside_count(&self) -> usize {
        self.aside.len()
    }

    pub(in crate::outbox) fn many_aside(&self) -> bool {
        self.aside.len() >= MOST_ASIDE
    }

    /// Returns the results that were set aside, in the order of their messages.
    pub(in crate::outbox) fn aside(&self) -> Vec<Settled> {
        let mut aside: Vec<Settled> = self.aside.values().cloned().collect();
        aside.sort_unstable_by_key(|settled| settled.sequence);
        aside
    }

    /// Removes a result that the store has recorded, or refused because the partition is lost.
    pub(in crate::outbox) fn recorded_aside(&mut self, id: MessageId) {
        if let Some(settled) = self.aside.remove(&id) {
            self.failing.remove(&settled.key);
        }
    }
}
