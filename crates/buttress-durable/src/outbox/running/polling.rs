//! Polling for messages.

use std::time::{Duration, Instant};

use super::{Operation, Running};
use crate::instant;
use crate::outbox::store::{Lease, Store};

/// After this many polls that found nothing, the relay polls less often.
const QUIET_POLLS: u32 = 10;
/// The most batches of blocked messages that a poll passes over to find messages of other keys.
const MOST_STANDING_STILL: usize = 10;

impl<St: Store, P, C> Running<St, P, C> {
    /// Whether the relay has room for messages and a live lease.
    pub(super) fn wants_more(&self, now: Instant) -> bool {
        let room = match self.pending.isolating() {
            Some(_) => 0,
            // If the store refused every result, the relay would otherwise publish all messages and
            // record none.
            None if self.pending.many_aside() => return false,
            None => self.relay.config.batch / 2,
        };
        self.ownership.is_live(now) && self.pending.held() <= room
    }

    pub(super) async fn poll_store(&mut self) {
        let now = self.now();
        let batch = self.relay.config.batch;
        if now < self.next_poll || !self.wants_more(now) {
            return;
        }
        let leases = self.pending.fetch_from();
        if leases.is_empty() {
            // Only a relay without partitions needs no messages.
            if !self.pending.has_doubts() {
                self.worked(Operation::Fetch);
            }
            self.next_poll = instant::after(now, self.relay.config.poll);
            return;
        }
        let limit = batch + self.pending.held() + self.pending.aside_count() + self.standing_still;
        let isolating = self.pending.isolating();
        let (store, id, asked) = (self.relay.store.clone(), self.relay.id, leases.clone());
        let fetch = async move { store.fetch(id, &leases, limit).await };
        let mut fetched = match self.beside(fetch).await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.next_poll = self.failed(Operation::Fetch, &error);
                return;
            }
        };
        self.worked(Operation::Fetch);
        self.relay.shared.notifier.counts.update(|stats| stats.poll_cycles += 1);
        self.store_time = (now, fetched.now);
        if self.pending.isolating() != isolating {
            // A renewal found suspects or lost them during the poll, so the poll did not look for
            // them.
            self.next_poll = now;
            return;
        }
        let full = fetched.messages.len() >= limit;
        fetched.messages.retain(|message| self.pending.still_owns(&asked, message.partition));
        let next_due = fetched.next_due.map(|due| due.saturating_sub(fetched.now));
        let new = self.pending.take_in(fetched.messages);
        match isolating {
            Some(lease) if new == 0 => self.clear(lease).await,
            Some(_) => self.next_poll = now,
            None if full && new > 0 => self.next_poll = now,
            None if full => {
                // All of these messages wait until the store has recorded a failure of their key. Messages of
                // other keys may stand behind them.
                self.standing_still =
                    (self.standing_still + batch).min(batch * MOST_STANDING_STILL);
                self.rest(0, None);
            }
            None => {
                self.standing_still = 0;
                self.rest(new, next_due);
            }
        }
    }

    /// Clears the suspects of this partition. The relay then polls for the other messages
    /// immediately.
    async fn clear(&mut self, lease: Lease) {
        let store = self.relay.store.clone();
        match self.beside(async move { store.clear_suspects(lease).await }).await {
            Ok(()) => {
                self.pending.cleared(lease);
                if self.pending.isolating().is_none() {
                    self.forget_starts();
                }
            }
            Err(error) if error.is_fenced() => {
                self.next_lease = self.now();
                self.next_poll = instant::after(self.now(), self.relay.config.poll);
            }
            Err(error) => self.next_poll = self.failed(Operation::ClearSuspects, &error),
        }
    }

    /// Sets the time of the next poll, after a poll that found less than a batch.
    fn rest(&mut self, new: usize, next_due: Option<Duration>) {
        let config = &self.relay.config;
        self.quiet = if new > 0 { 0 } else { self.quiet.saturating_add(1) };
        let doublings = self.quiet.saturating_sub(QUIET_POLLS).min(30);
        let mut wait = config.poll.saturating_mul(1 << doublings).min(config.idle_poll);
        if let Some(next_due) = next_due {
            wait = wait.min(next_due);
        }
        self.next_poll = instant::after(self.now(), wait);
    }
}
