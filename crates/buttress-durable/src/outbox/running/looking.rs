//! Looking for messages, and removing old ones.

use std::time::{Duration, Instant};

use super::Running;
use super::flights::beside;
use crate::instant;
use crate::outbox::store::{Lease, Store};

/// How often delivered messages are purged.
pub(super) const PURGE_EVERY: Duration = Duration::from_secs(60);
/// After how many looks that found nothing the relay looks less often.
const QUIET_LOOKS: u32 = 10;

impl<St: Store, P, C> Running<St, P, C> {
    /// Whether there is room for messages, and the right to them.
    pub(super) fn wants_more(&self, now: Instant) -> bool {
        let room = match self.desk.isolating() {
            Some(_) => 0,
            None => self.relay.config.batch / 2,
        };
        now < self.lease_until && self.desk.held() <= room
    }

    pub(super) async fn look(&mut self) {
        let now = self.now();
        let batch = self.relay.config.batch;
        if now < self.next_look || !self.wants_more(now) {
            return;
        }
        let leases = self.desk.fetch_from();
        if leases.is_empty() {
            self.next_look = instant::after(now, self.relay.config.poll);
            return;
        }
        let limit = batch + self.desk.held();
        let store = &self.relay.store;
        let fetch = store.fetch(self.relay.id, &leases, limit);
        let fetched = match beside(&mut self.flights, &mut self.desk, fetch).await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.warn("no messages fetched", &error);
                self.next_look = self.pause();
                return;
            }
        };
        self.relay.shared.bell.counts.update(|stats| stats.poll_cycles += 1);
        self.store_time = (now, fetched.now);
        let full = fetched.messages.len() >= limit;
        let next_due = fetched.next_due.map(|due| due.saturating_sub(fetched.now));
        let isolating = self.desk.isolating();
        let new = self.desk.take_in(fetched.messages);
        match isolating {
            Some(lease) if new == 0 => self.clear(lease).await,
            _ if full || isolating.is_some() => self.next_look = now,
            _ => self.rest(new, next_due),
        }
    }

    /// Nothing of this partition is suspect any more: look at the rest at once.
    async fn clear(&mut self, lease: Lease) {
        match self.relay.store.clear_suspects(lease).await {
            Ok(()) => self.desk.cleared(lease.partition),
            Err(error) if error.is_fenced() => self.next_lease = self.now(),
            Err(error) => {
                self.warn("suspects not cleared", &error);
                self.next_look = self.pause();
            }
        }
    }

    /// Sets the next look after one that found less than there was room for.
    fn rest(&mut self, new: usize, next_due: Option<Duration>) {
        let config = &self.relay.config;
        self.quiet = if new > 0 { 0 } else { self.quiet.saturating_add(1) };
        let doublings = self.quiet.saturating_sub(QUIET_LOOKS).min(30);
        let mut wait = config.poll.saturating_mul(1 << doublings).min(config.idle_poll);
        if let Some(next_due) = next_due {
            wait = wait.min(next_due);
        }
        self.next_look = instant::after(self.now(), wait);
    }

    pub(super) async fn purge(&mut self) {
        if self.now() < self.next_purge {
            return;
        }
        let config = &self.relay.config;
        let (age, batch) = (config.keep_delivered, config.purge_batch);
        let store = &self.relay.store;
        let purged = beside(&mut self.flights, &mut self.desk, store.purge(age, batch)).await;
        let again = match purged {
            Ok(purged) if purged >= batch => Duration::from_secs(1),
            Ok(_) => PURGE_EVERY,
            Err(error) => {
                self.warn("delivered messages not purged", &error);
                PURGE_EVERY
            }
        };
        self.next_purge = instant::after(self.now(), again);
    }
}
