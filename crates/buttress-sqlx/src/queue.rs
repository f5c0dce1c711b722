//! Group commit: the operations of many callers, carried out in one transaction.

use std::collections::HashMap;
use std::time::Duration;

use buttress::{StoreError, StoreErrorKind};
use tokio::sync::{mpsc, oneshot};

use crate::error::too_slow;
use crate::time::within;

/// One operation with the caller who waits for it.
pub(crate) struct Job<I, R> {
    pub(crate) input: I,
    /// What it came to, if the transaction commits.
    verdict: Option<Result<R, StoreError>>,
    reply: oneshot::Sender<Result<R, StoreError>>,
}

impl<I, R> Job<I, R> {
    pub(crate) fn settle(&mut self, verdict: Result<R, StoreError>) {
        self.verdict = Some(verdict);
    }

    /// Forgets what it came to in a transaction that was not committed.
    pub(crate) fn reset(&mut self) {
        self.verdict = None;
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.verdict.is_some()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Tells the caller, who may be gone.
    pub(crate) fn answer(self, committed: Result<(), &StoreError>) {
        let answer = match committed {
            Ok(()) => self.verdict.unwrap_or_else(|| {
                Err(StoreError::transient("the writer came to no verdict on the operation"))
            }),
            Err(error) => Err(error.clone()),
        };
        let _gone = self.reply.send(answer);
    }
}

/// An operation of a store, whatever it is about.
pub(crate) trait Op: Send + 'static {
    /// Operations with the same subject are carried out one after another. It may be a digest: two
    /// that are alike by chance only lose a little speed.
    fn subject(&self) -> u128;
    /// How many rows it is about.
    fn rows(&self) -> usize;
    /// How many bytes it brings.
    fn bytes(&self) -> usize;
    /// Whether its caller has gone away.
    fn is_abandoned(&self) -> bool;
    /// Forgets what it came to in a transaction that was not committed.
    fn reset(&mut self);
    /// Tells its caller.
    fn answer(self, committed: Result<(), &StoreError>);
}

/// Where callers put their operations.
pub(crate) struct Queue<O> {
    sender: mpsc::Sender<O>,
    /// How long a caller waits for a place and for the answer.
    patience: Duration,
}

impl<O: Op> Queue<O> {
    /// A queue for `places` operations, and its other end.
    pub(crate) fn new(places: usize, patience: Duration, limits: Limits) -> (Self, Intake<O>) {
        let (sender, receiver) = mpsc::channel(places.max(1));
        (Self { sender, patience }, Intake { receiver, carried: None, limits })
    }

    /// Has `input` carried out. Dropping the future gives the operation up if it has not begun.
    pub(crate) async fn submit<I, R>(
        &self,
        what: &'static str,
        input: I,
        wrap: impl FnOnce(Job<I, R>) -> O + Send,
    ) -> Result<R, StoreError>
    where
        I: Send,
        R: Send,
    {
        let (reply, answer) = oneshot::channel();
        let op = wrap(Job { input, verdict: None, reply });
        let outcome = within(self.patience, async {
            if self.sender.send(op).await.is_err() {
                return Err(StoreError::transient(format!("{what}: the store is closed")));
            }
            answer.await.unwrap_or_else(|_| {
                Err(StoreError::transient(format!("{what}: the writer ended before its answer")))
            })
        });
        outcome.await.unwrap_or_else(|| Err(too_slow(what, self.patience)))
    }
}

/// How much goes into one transaction, so that others need not wait long for theirs.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// The writer's end of a [`Queue`].
pub(crate) struct Intake<O> {
    receiver: mpsc::Receiver<O>,
    /// Taken from the queue when the batch before was full.
    carried: Option<O>,
    limits: Limits,
}

impl<O: Op> Intake<O> {
    /// Waits for an operation and begins a batch with it; `None` once the store is gone and everything
    /// done.
    pub(crate) async fn begin(&mut self) -> Option<Batch<O>> {
        let first = match self.carried.take() {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let mut batch = Batch { ops: Vec::new(), rows: 0, bytes: 0 };
        batch.push(first);
        // Whoever was answered by the batch before is about to ask again: let them, so that they come
        // together.
        tokio::task::yield_now().await;
        Some(batch)
    }

    /// Adds what waits by now, as far as the limits go.
    pub(crate) fn fill(&mut self, batch: &mut Batch<O>) {
        while self.carried.is_none() {
            let Ok(op) = self.receiver.try_recv() else { break };
            if op.is_abandoned() {
                continue;
            }
            let fits = batch.rows + op.rows() <= self.limits.rows
                && batch.bytes + op.bytes() <= self.limits.bytes;
            if fits {
                batch.push(op);
            } else {
                self.carried = Some(op);
            }
        }
    }
}

/// What goes into one transaction.
pub(crate) struct Batch<O> {
    ops: Vec<O>,
    rows: usize,
    bytes: usize,
}

impl<O: Op> Batch<O> {
    fn push(&mut self, op: O) {
        self.rows += op.rows();
        self.bytes += op.bytes();
        self.ops.push(op);
    }

    /// The operations in groups, to be carried out one group after another: in each every subject comes
    /// up once, and operations on one subject keep their order.
    pub(crate) fn waves(&mut self) -> Vec<Vec<&mut O>> {
        let mut seen: HashMap<u128, usize> = HashMap::with_capacity(self.ops.len());
        let mut waves: Vec<Vec<&mut O>> = Vec::new();
        for op in &mut self.ops {
            let wave = seen.entry(op.subject()).or_default();
            if waves.len() <= *wave {
                waves.push(Vec::new());
            }
            if let Some(wave) = waves.get_mut(*wave) {
                wave.push(op);
            }
            *wave += 1;
        }
        waves
    }

    /// Whether `error` is about one of several operations.
    pub(crate) fn is_to_be_split(&self, error: &StoreError) -> bool {
        self.ops.len() > 1 && error.kind() == StoreErrorKind::Invalid
    }

    /// The operations one by one, as if none had been tried, after the database refused something in the
    /// batch: it refuses one of them, and the others must not fail with it.
    pub(crate) fn singly(self) -> impl Iterator<Item = Self> {
        self.ops.into_iter().map(|mut op| {
            op.reset();
            let mut batch = Self { ops: Vec::with_capacity(1), rows: 0, bytes: 0 };
            batch.push(op);
            batch
        })
    }

    /// Tells every caller.
    pub(crate) fn answer(self, committed: Result<(), &StoreError>) {
        for op in self.ops {
            op.answer(committed);
        }
    }
}

#[cfg(test)]
mod tests;
