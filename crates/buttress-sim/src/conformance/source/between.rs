//! [`Between`]: a source whose deliveries a case sees and changes.

use std::fmt;

use buttress::StoreError;
use buttress_durable::consume::{Answer, Batch, Limits, Settle, Source};

/// Sees a batch, and may change it.
type Seeing<T> = dyn Fn(&mut Batch<T>) + Send + Sync;

/// Calls a function with the deliveries of a source and the settlements of the consumer.
pub(super) struct Between<S: Source> {
    source: S,
    received: Box<Seeing<S::Token>>,
    settling: fn(Settle) -> Settle,
}

impl<S: Source> Between<S> {
    pub(super) fn new(
        source: S,
        received: impl Fn(&mut Batch<S::Token>) + Send + Sync + 'static,
        settling: fn(Settle) -> Settle,
    ) -> Self {
        Self { source, received: Box::new(received), settling }
    }
}

impl<S: Source> Source for Between<S> {
    type Token = S::Token;

    fn name(&self) -> &str {
        self.source.name()
    }

    fn group(&self) -> &str {
        self.source.group()
    }

    fn limits(&self) -> Limits {
        self.source.limits()
    }

    fn announce_capacity(&self, messages: usize) {
        self.source.announce_capacity(messages);
    }

    fn want(&self, room: usize) {
        self.source.want(room);
    }

    async fn receive(&self) -> Result<Batch<S::Token>, StoreError> {
        let mut batch = self.source.receive().await?;
        (self.received)(&mut batch);
        Ok(batch)
    }

    async fn settle(&self, done: &[(S::Token, Settle)]) -> Result<Vec<Answer>, StoreError> {
        let done: Vec<_> =
            done.iter().map(|(token, how)| (token.clone(), (self.settling)(*how))).collect();
        self.source.settle(&done).await
    }

    async fn keep(&self, held: &[S::Token]) -> Result<Vec<Answer>, StoreError> {
        self.source.keep(held).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.source.close().await
    }
}

impl<S: Source> fmt::Debug for Between<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Between").field("source", &self.source.name()).finish_non_exhaustive()
    }
}
