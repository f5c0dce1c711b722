//! [`Subscription`]: one member of a group, as the source of a consumer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use buttress::StoreError;
use buttress_durable::consume::{Answer, Batch, Limits, Place, Received, Settle, Shard, Source};
use tokio::sync::Notify;

use crate::client::Properties;
use crate::member::{Member, spawn};
use crate::subscribe::Subscribe;
use crate::table::{Handed, Table, Token};
use crate::topic::Topic;

/// One member of a group: the [`Source`] of a [`Consumer`](buttress_durable::consume::Consumer). Made by
/// [`Kafka::subscribe`](crate::Kafka::subscribe).
///
/// The member joins the group when its consumer begins to receive. It has a separate thread, which answers the brokers
/// also while the consumer is paused or busy. A member that is dropped leaves its group.
pub struct Subscription {
    properties: Properties,
    topic: String,
    settings: Subscribe,
    shared: Arc<Shared>,
}

/// The state that the consumer and the thread of the member share.
pub(crate) struct Shared {
    pending: Mutex<Pending>,
    thread: OnceLock<Thread>,
    /// Notified when there is something to receive.
    more: Notify,
    /// Notified when the thread has ended.
    ended: Notify,
}

/// The messages and commands between consumer and thread.
pub(crate) struct Pending {
    pub table: Table<Record>,
    /// A failure that is not yet reported to the consumer.
    pub failure: Option<StoreError>,
    pub stage: Stage,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub topic: String,
    pub payload: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Record {
    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.key.len() + self.payload.len() + headers.sum::<usize>()
    }
}

/// The life of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The consumer has not begun.
    New,
    Running,
    /// The consumer has settled everything, and the member leaves the group.
    Leaving,
    /// The consumer was dropped: it settles nothing more.
    Dropped,
    Ended,
}

impl Shared {
    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the consumer.
    pub(crate) fn notify(&self) {
        self.more.notify_one();
    }

    /// Wakes the thread.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Records that the thread has ended.
    pub(crate) fn end(&self) {
        self.pending().stage = Stage::Ended;
        self.more.notify_one();
        self.ended.notify_one();
    }

    fn leave(&self, how: Stage) {
        let mut pending = self.pending();
        match pending.stage {
            Stage::New => pending.stage = Stage::Ended,
            Stage::Running | Stage::Leaving => pending.stage = how,
            Stage::Dropped | Stage::Ended => {}
        }
        drop(pending);
        self.wake();
    }
}

impl Subscription {
    pub(crate) fn new(properties: Properties, topic: &Topic, settings: Subscribe) -> Self {
        let table = Table::new(settings.window);
        let pending = Mutex::new(Pending { table, failure: None, stage: Stage::New });
        let (more, ended) = (Notify::new(), Notify::new());
        let shared = Shared { pending, thread: OnceLock::new(), more, ended };
        Self { properties, topic: topic.name.clone(), settings, shared: Arc::new(shared) }
    }

    fn begin(&self) -> Result<(), StoreError> {
        let member =
            Member::new(&self.properties, &self.topic, &self.settings, self.shared.clone())?;
        let spawned = spawn("kafka-member", move || member.run())?;
        self.shared.thread.get_or_init(|| spawned.thread().clone());
        Ok(())
    }

    /// Returns the messages, revocations and losses that wait.
    fn next(&self) -> Option<Result<Batch<Token>, StoreError>> {
        let mut pending = self.shared.pending();
        if let Some(failure) = pending.failure.take() {
            return Some(Err(failure));
        }
        let handed = pending.table.hand_out();
        let has_ended = pending.stage == Stage::Ended;
        drop(pending);
        if let Some(Handed { messages, revoked, lost }) = handed {
            // There is room for further messages now.
            self.shared.wake();
            let messages = messages.into_iter().map(|(token, record)| received(token, record));
            let mut batch = Batch::new(messages.collect());
            batch.revoked = revoked.into_iter().map(shard).collect();
            batch.lost = lost;
            return Some(Ok(batch));
        }
        let why = || format!("the topic `{}`: the member has left its group", self.topic);
        has_ended.then(|| Err(StoreError::misconfigured(why())))
    }
}

/// Returns the number of a partition, which is never negative.
fn shard(partition: i32) -> Shard {
    Shard(u64::from(partition.unsigned_abs()))
}

fn received(token: Token, record: Record) -> Received<Token> {
    let Record { partition, offset, key, topic, payload, headers } = record;
    let mut received = Received::new(token, shard(partition), key, payload);
    received.place = Some(Place::Number(offset.unsigned_abs()));
    (received.topic, received.headers) = (topic, headers);
    received
}

impl Source for Subscription {
    type Token = Token;

    fn name(&self) -> &str {
        &self.topic
    }

    fn group(&self) -> &str {
        &self.settings.group
    }

    /// The brokers wait forever for a message to be settled, and count no deliveries. So the consumer may let a message
    /// rest for any time.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn want(&self, room: usize) {
        let grows = self.shared.pending().table.want(room);
        if grows {
            self.shared.notify();
        }
    }

    async fn receive(&self) -> Result<Batch<Token>, StoreError> {
        let is_new = {
            let mut pending = self.shared.pending();
            let is_new = pending.stage == Stage::New;
            if is_new {
                pending.stage = Stage::Running;
            }
            is_new
        };
        if is_new {
            self.begin().inspect_err(|_| self.shared.pending().stage = Stage::New)?;
        }
        loop {
            if let Some(answer) = self.next() {
                return answer;
            }
            self.shared.more.notified().await;
        }
    }

    async fn settle(&self, done: &[(Token, Settle)]) -> Result<Vec<Answer>, StoreError> {
        let mut pending = self.shared.pending();
        let answers = done.iter().map(|(token, how)| pending.table.settle(*token, *how)).collect();
        drop(pending);
        Ok(answers)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.shared.leave(Stage::Leaving);
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.pending().stage == Stage::Ended {
                return Ok(());
            }
            ended.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.leave(Stage::Dropped);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic)
            .field("group", &self.settings.group)
            .finish_non_exhaustive()
    }
}
