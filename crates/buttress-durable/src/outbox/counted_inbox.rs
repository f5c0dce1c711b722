//! [`CountedInbox`]: an inbox whose answers are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress::telemetry::{Reading, Source};
use buttress::{Name, StoreError};

use super::inbox::{Inbox, Passage, Receipt};
use super::message::MessageId;
use crate::instruments as all;
use crate::saga::SagaId;

/// An inbox that counts its answers for a [`Sampler`](buttress::telemetry::Sampler). Cheap to clone
/// if the inner inbox is. Clones share the counts.
///
/// An answer counts when the inbox returns it, before the caller's transaction commits.
#[derive(Clone, Debug)]
pub struct CountedInbox<I> {
    inbox: I,
    layer: Name,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    first: AtomicU64,
    repeated: AtomicU64,
    proceed: AtomicU64,
    passed_before: AtomicU64,
    overtaken: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn receipt(&self, answer: Result<Receipt, StoreError>) -> Result<Receipt, StoreError> {
        add(match answer {
            Ok(Receipt::First) => &self.first,
            Ok(Receipt::Repeated) => &self.repeated,
            Err(_) => &self.failed,
        });
        answer
    }

    fn passage(&self, answer: Result<Passage, StoreError>) -> Result<Passage, StoreError> {
        add(match answer {
            Ok(Passage::Proceed) => &self.proceed,
            Ok(Passage::Repeated) => &self.passed_before,
            Ok(Passage::Overtaken) => &self.overtaken,
            Err(_) => &self.failed,
        });
        answer
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl<I> CountedInbox<I> {
    /// Wraps `inbox`, and counts its answers under the label `layer`.
    pub fn new(layer: impl Into<Name>, inbox: I) -> Self {
        Self { inbox, layer: layer.into(), counts: Arc::default() }
    }

    /// Returns the wrapped inbox.
    #[must_use]
    pub fn inner(&self) -> &I {
        &self.inbox
    }
}

impl<Tx: Send, I: Inbox<Tx>> Inbox<Tx> for CountedInbox<I> {
    async fn receive(
        &self,
        tx: &mut Tx,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        self.counts.receipt(self.inbox.receive(tx, consumer, message).await)
    }

    async fn action(&self, tx: &mut Tx, saga: SagaId, step: &str) -> Result<Passage, StoreError> {
        self.counts.passage(self.inbox.action(tx, saga, step).await)
    }

    async fn undo(&self, tx: &mut Tx, saga: SagaId, step: &str) -> Result<Passage, StoreError> {
        self.counts.passage(self.inbox.undo(tx, saga, step).await)
    }
}

impl<I: Send + Sync> Source for CountedInbox<I> {
    fn read(&self, reading: &mut Reading) {
        let (layer, counts) = (self.layer.as_str(), &*self.counts);
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (receipt, counter) in [("first", &counts.first), ("repeated", &counts.repeated)] {
            reading.add_count(&all::INBOX_RECEIPTS, [layer, receipt], number(counter));
        }
        let passages = [
            ("proceed", &counts.proceed),
            ("repeated", &counts.passed_before),
            ("overtaken", &counts.overtaken),
        ];
        for (passage, counter) in passages {
            reading.add_count(&all::INBOX_PASSAGES, [layer, passage], number(counter));
        }
        reading.add_count(&all::INBOX_FAILED, [layer], number(&counts.failed));
    }
}
