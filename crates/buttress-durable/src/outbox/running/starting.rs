//! Handing messages to the publisher.

use std::panic::{AssertUnwindSafe, catch_unwind};

use buttress::Classify;
use tower::{BoxError, Service};

use super::Running;
use super::flights::collect;
use crate::outbox::config::HeadOfKey;
use crate::outbox::deliver::{deliver, panicked};
use crate::outbox::message::Message;
use crate::outbox::state::{Next, Slip};
use crate::outbox::store::{Lease, Store, Verdict};

impl<St, P, C> Running<St, P, C>
where
    St: Store,
    P: Service<Message> + Clone + Send + 'static,
    P::Error: Into<BoxError>,
    P::Future: Send + 'static,
    P::Response: Send,
    C: Classify<P::Response, P::Error> + Clone + Send + Sync + 'static,
{
    /// Starts what may be published.
    pub(super) async fn start(&mut self) {
        let most = self.relay.config.concurrency;
        while self.desk.under_way() < most && self.now() < self.lease_until {
            match self.desk.next() {
                Some(Next::Publish(message, lease)) => self.publish(message, lease),
                Some(Next::Alone(message, lease)) => self.publish_alone(message, lease).await,
                None => return,
            }
            collect(&mut self.flights, &mut self.desk);
        }
    }

    fn publish(&mut self, message: Message, lease: Lease) {
        let relay = &self.relay;
        if message.attempts > 0 || message.starts > 0 {
            relay.shared.bell.counts.update(|stats| stats.redelivered += 1);
        }
        let copy = || (relay.publisher.clone(), relay.classify.clone());
        let Ok((publisher, classify)) = catch_unwind(AssertUnwindSafe(copy)) else {
            let slip = Slip::of(&message);
            let verdict = panicked(&slip, &relay.config);
            return self.desk.ended(slip, lease, verdict);
        };
        let delivery = deliver(publisher, classify, message, lease, relay.config.clone());
        self.flights.push(Box::pin(delivery));
    }

    async fn publish_alone(&mut self, message: Message, lease: Lease) {
        let config = &self.relay.config;
        let claim = config.rng.next_u64();
        match self.relay.store.start(lease, message.id, claim).await {
            Ok(starts) if starts > config.max_starts => {
                let error = format!("brought the relay down {} times", starts - 1);
                let hold_key = config.head_of_key == HeadOfKey::Block;
                self.desk.ended(Slip::of(&message), lease, Verdict::Dead { error, hold_key });
            }
            Ok(starts) => self.publish(Message { starts, ..message }, lease),
            Err(error) => {
                self.desk.abandoned(&message);
                if error.is_fenced() {
                    self.next_lease = self.now();
                } else {
                    self.warn("start not written down", &error);
                }
                self.next_look = self.pause();
            }
        }
    }
}
