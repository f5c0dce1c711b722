//! Handing messages to the publisher.

use super::in_flight::owned;
use super::ownership::May;
use super::settling::is_refusal;
use super::{Operation, Running};
use crate::caught::caught;
use crate::causes::WithCauses;
use crate::instant;
use crate::outbox::deliver::{deliver, panicked};
use crate::outbox::message::Message;
use crate::outbox::state::verdict::Limits;
use crate::outbox::state::{Delivery, Next};
use crate::outbox::store::{Lease, Store};
use crate::serves::Serves;
use buttress::Classify;

impl<St, P, C> Running<St, P, C>
where
    St: Store,
    P: Serves<Message>,
    C: Classify<P::Response, P::Error> + Clone + Send + Sync + 'static,
{
    /// Starts the deliveries that may begin now.
    pub(super) async fn start(&mut self) {
        self.start_ready();
        while self.may_start() {
            match self.pending.next() {
                Some(Next::Publish(message, lease)) => self.publish(message, lease),
                Some(Next::Alone(message, lease)) => self.publish_alone(message, lease).await,
                None => return,
            }
            self.collect();
        }
    }

    /// Starts the deliveries that may begin now, unless suspects come first. Returns whether there were any.
    pub(super) fn start_ready(&mut self) -> bool {
        let mut any = false;
        while self.pending.has_ready() && self.may_start() {
            while self.may_start() {
                let Some(Next::Publish(message, lease)) = self.pending.next() else { break };
                self.publish(message, lease);
            }
            // Deliveries that end at their first poll make room for others.
            self.collect();
            any = true;
        }
        any
    }

    fn may_start(&self) -> bool {
        // During a renewal the store may release partitions that the relay did not report as busy.
        self.renewal.is_none()
            && self.pending.under_way() < self.relay.config.concurrency
            && self.ownership.is_live(self.now())
    }

    fn publish(&mut self, message: Message, lease: Lease) {
        let relay = &self.relay;
        if message.attempts > 0 || message.starts > 0 {
            relay.shared.notifier.counts.update(|stats| stats.redelivered += 1);
        }
        let copy = || (relay.publisher.clone(), relay.classify.clone());
        let Ok((publisher, classify)) = caught(copy) else {
            let delivery = Delivery::of(&message);
            let verdict = panicked(message.attempts, &relay.config);
            self.claims.remove(&message.id);
            return self.pending.ended(delivery, lease, verdict);
        };
        let (delivery, config) = (Delivery::of(&message), relay.config.clone());
        let publishing =
            deliver(publisher, classify, message, config.clone(), self.refusals.in_a_row());
        let ownership = self.ownership.clone();
        self.in_flight.push(Box::pin(owned(publishing, delivery, lease, ownership, config)));
    }

    /// Publishes a suspect after the store has recorded its start. Publishes nothing if the lease
    /// has ended before the answer, or if another relay has owned the partition.
    async fn publish_alone(&mut self, message: Message, lease: Lease) {
        let config = self.relay.config.clone();
        let (id, delivery) = (message.id, Delivery::of(&message));
        let claim = *self.claims.entry(id).or_insert_with(|| config.common.rng.next_u64());
        let store = self.relay.store.clone();
        let started = self.beside(async move { store.record_start(lease, id, claim).await }).await;
        if started.is_ok() {
            self.worked(Operation::Start);
        }
        match started {
            Ok(_) if self.ownership.may(lease, self.now()) != May::Go => {
                self.pending.abandoned(&delivery);
                self.next_poll = self.now();
            }
            Ok(starts) => match Limits::of(&config).after_start(starts) {
                Some(verdict) => {
                    self.claims.remove(&id);
                    self.pending.ended(delivery, lease, verdict);
                }
                // The claim stays until the delivery has ended with a verdict.
                None => self.publish(Message { starts, ..message }, lease),
            },
            Err(error) if error.is_fenced() => {
                self.pending.abandoned(&delivery);
                self.next_lease = self.now();
                self.next_poll = instant::after(self.now(), config.poll);
            }
            Err(error) if is_refusal(&error) => {
                tracing::error!(
                    target: "buttress", layer = config.layer().as_str(), message_id = %id,
                    key = message.key, error = %WithCauses(&error),
                    "the store refuses to record the start of a suspect message: the relay skips the message until \
                     its partition has no suspects"
                );
                self.pending.pass_over(&delivery);
                self.next_poll = self.now();
            }
            Err(error) => {
                self.pending.abandoned(&delivery);
                self.next_poll = self.failed(Operation::Start, &error);
            }
        }
    }
}
