//! [`CountedInbox`]: an inbox whose answers are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress::Name;
use buttress::telemetry::{Reading, Source};

use super::inbox::{Inbox, Receipt};
use super::message::MessageId;
use crate::answer::Answer;
use crate::metric_names as all;

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
    failed: AtomicU64,
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
    async fn receive(&self, tx: &mut Tx, consumer: &str, message: MessageId) -> Answer<Receipt> {
        let answer = self.inbox.receive(tx, consumer, message).await;
        let counter = match answer {
            Ok(Receipt::First) => &self.counts.first,
            Ok(Receipt::Repeated) => &self.counts.repeated,
            Err(_) => &self.counts.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

impl<I: Send + Sync> Source for CountedInbox<I> {
    fn read(&self, reading: &mut Reading) {
        let (layer, counts) = (self.layer.as_str(), &*self.counts);
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (receipt, counter) in [("first", &counts.first), ("repeated", &counts.repeated)] {
            reading.add_count(&all::INBOX_RECEIPTS, [layer, receipt], number(counter));
        }
        reading.add_count(&all::INBOX_FAILED, [layer], number(&counts.failed));
    }
}
