//! Writes the operations of many callers in one transaction (group commit).

use std::collections::HashMap;
use std::time::Duration;

use buttress::{StoreError, StoreErrorKind};
use tokio::sync::{mpsc, oneshot};

use crate::error::too_slow;
use crate::time::within;

/// An operation with the caller that waits for it.
pub(crate) struct Job<I, R> {
    pub input: I,
    /// The answer, if the transaction commits.
    verdict: Option<Result<R, StoreError>>,
    reply: oneshot::Sender<Result<R, StoreError>>,
}

impl<I, R> Job<I, R> {
    pub(crate) fn settle(&mut self, verdict: Result<R, StoreError>) {
        self.verdict = Some(verdict);
    }

    /// Forgets the answer of a transaction that did not commit.
    pub(crate) fn reset(&mut self) {
        self.verdict = None;
    }

    /// Creates an operation in the transaction of a caller, whom no reply answers.
    #[cfg(feature = "saga")]
    pub(crate) fn alone(input: I) -> Self {
        let (reply, _nobody) = oneshot::channel();
        Self { input, verdict: None, reply }
    }

    #[cfg(all(feature = "postgres", feature = "saga"))]
    pub(crate) const fn is_settled(&self) -> bool {
        self.verdict.is_some()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Sends the answer to the caller. A caller that is gone does not get it.
    pub(crate) fn answer(self, committed: Result<(), &StoreError>) {
        let answer = match committed {
            Ok(()) => self.verdict.unwrap_or_else(|| {
                Err(StoreError::transient("the writer has no answer to the operation; repeat it"))
            }),
            Err(error) => Err(error.clone()),
        };
        let _gone = self.reply.send(answer);
    }
}

/// An operation of a store.
pub(crate) trait Op: Send + 'static {
    /// Operations with the same subject run one after another. It may be a digest: equal digests of
    /// two subjects only cost speed.
    fn subject(&self) -> u128;
    /// Returns the number of rows of the operation.
    fn rows(&self) -> usize;
    /// Returns the number of bytes of the operation.
    fn bytes(&self) -> usize;
    /// Whether the caller has dropped its future.
    fn is_abandoned(&self) -> bool;
    /// Forgets the answer of a transaction that did not commit.
    fn reset(&mut self);
    /// Sends the answer to the caller.
    fn answer(self, committed: Result<(), &StoreError>);
}

/// Makes the operations of a writer, and `Wave`: the operations of one wave, by kind.
#[cfg(any(feature = "saga", feature = "idempotency"))]
macro_rules! operations {
    ($op:ident { $($variant:ident($job:ty) in $kind:ident),+ $(,)? }) => {
        /// An operation of the writer.
        pub(crate) enum $op {
            $($variant($job),)+
        }

        /// The operations of one wave, by kind.
        #[derive(Default)]
        pub(crate) struct Wave<'a> {
            $(pub $kind: Vec<&'a mut $job>,)+
        }

        impl<'a> Wave<'a> {
            pub(crate) fn new(operations: Vec<&'a mut $op>) -> Self {
                let mut wave = Self::default();
                for operation in operations {
                    match operation {
                        $($op::$variant(job) => wave.$kind.push(job),)+
                    }
                }
                wave
            }
        }
    };
}
#[cfg(any(feature = "saga", feature = "idempotency"))]
pub(crate) use operations;

/// Writes the methods of [`Op`] that an operation passes on to its job.
macro_rules! pass_on {
    ($($(#[$attribute:meta])* $variant:ident)+) => {
        fn is_abandoned(&self) -> bool {
            match self {
                $($(#[$attribute])* Self::$variant(job) => job.is_abandoned(),)+
            }
        }

        fn reset(&mut self) {
            match self {
                $($(#[$attribute])* Self::$variant(job) => job.reset(),)+
            }
        }

        fn answer(self, committed: Result<(), &StoreError>) {
            match self {
                $($(#[$attribute])* Self::$variant(job) => job.answer(committed),)+
            }
        }
    };
}
pub(crate) use pass_on;

/// The queue into which callers put their operations.
pub(crate) struct Queue<O> {
    sender: mpsc::Sender<O>,
    /// How long a caller waits, for a place and for the answer.
    patience: Duration,
}

impl<O: Op> Queue<O> {
    /// Creates a queue for `places` operations. Returns the queue and its intake.
    pub(crate) fn new(places: usize, patience: Duration, limits: Limits) -> (Self, Intake<O>) {
        let (sender, receiver) = mpsc::channel(places.max(1));
        (Self { sender, patience }, Intake { receiver, carried: None, limits })
    }

    /// Queues `input`, and waits for the answer. Dropping the future cancels the operation if it
    /// has not begun.
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

/// The bounds of one transaction, so that other transactions do not wait long.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub rows: usize,
    pub bytes: usize,
}

/// The writer's end of a [`Queue`].
pub(crate) struct Intake<O> {
    receiver: mpsc::Receiver<O>,
    /// The operation that did not fit into the last batch.
    carried: Option<O>,
    limits: Limits,
}

impl<O: Op> Intake<O> {
    /// Waits for an operation, and begins a batch with it. Returns `None` when the store was
    /// dropped and all operations are done.
    pub(crate) async fn begin(&mut self) -> Option<Batch<O>> {
        let first = match self.carried.take() {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let mut batch = Batch { ops: Vec::new(), rows: 0, bytes: 0 };
        batch.push(first);
        // Callers with an answer from the last batch are about to send their next operation. The
        // yield lets them join.
        tokio::task::yield_now().await;
        Some(batch)
    }

    /// Adds the operations that wait now, up to the limits.
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

/// The operations of one transaction.
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

    /// Returns the operations in groups that run one after another. Each group has a subject at
    /// most once, and operations on one subject keep their order.
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

    /// Whether `error` concerns only one of several operations.
    pub(crate) fn is_to_be_split(&self, error: &StoreError) -> bool {
        self.ops.len() > 1 && error.kind() == StoreErrorKind::Invalid
    }

    /// Returns the operations one by one, without their answers. The database refused one of them,
    /// and the others must not fail with it.
    pub(crate) fn singly(self) -> impl Iterator<Item = Self> {
        self.ops.into_iter().map(|mut op| {
            op.reset();
            let mut batch = Self { ops: Vec::with_capacity(1), rows: 0, bytes: 0 };
            batch.push(op);
            batch
        })
    }

    /// Sends every caller its answer.
    pub(crate) fn answer(self, committed: Result<(), &StoreError>) {
        for op in self.ops {
            op.answer(committed);
        }
    }
}

#[cfg(test)]
mod tests;
