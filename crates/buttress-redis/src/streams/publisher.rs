//! [`Publisher`]: adds messages to the streams of a topic.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use buttress::{Classify, Outcome};
use buttress_durable::outbox::Message;
use redis::{Cmd, Value};
use tower::Service;

use super::topic::Topic;
use super::{declare, entry};
use crate::address::Redis;
use crate::error::Error;
use crate::link::Link;
use crate::script::Script;

/// The treatment of entries that every group has handled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Trim {
    /// The publisher removes the entries, after each 1024 messages of a shard. This is the default, because Redis holds
    /// everything in memory. It removes nothing that a group has not acknowledged, and nothing without a group.
    #[default]
    Handled,
    /// The publisher removes no entries. A group that begins at [`Start::First`](super::Start::First) later receives
    /// them.
    Never,
}

/// After how many messages a shard is trimmed.
const TRIM_EVERY: u32 = 1024;

/// Removes the entries below the first one that some group has not acknowledged.
static HANDLED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local function older(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if #ams ~= #bms then return #ams < #bms end
  if ams ~= bms then return ams < bms end
  if #aseq ~= #bseq then return #aseq < #bseq end
  return aseq < bseq
end
local least
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  local id = group['last-delivered-id']
  if group['pending'] > 0 then
    id = redis.call('XPENDING', KEYS[1], group['name'])[2]
  end
  if not least or older(id, least) then least = id end
end
if not least then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', least)",
    )
});

/// A publisher of messages to a [`Topic`], for a relay or for direct use. Cheap to clone.
///
/// A response means that Redis has the message in its memory. The configuration of Redis decides which messages survive
/// a crash of Redis: see [the guide](crate::guide::redis#what-redis-keeps).
///
/// After [`Error::TooSlow`] and [`Error::Unavailable`] it is unknown whether Redis has the message. A relay publishes
/// it again with the same id, and an inbox recognises it.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    topic: Topic,
    streams: Vec<Arc<str>>,
    trim: Trim,
    /// Messages per shard since the last trim.
    since: Vec<AtomicU32>,
}

impl Redis {
    /// Creates the streams of a topic unless they exist, and returns their publisher.
    ///
    /// # Errors
    /// Returns an [`Error`] if Redis does not answer, refuses the credentials, or has the topic with another number
    /// of shards.
    ///
    /// # Cancel safety
    /// If the future is dropped, some streams may exist. A repeated call creates the missing streams.
    pub async fn publisher(&self, topic: Topic, trim: Trim) -> Result<Publisher, Error> {
        let link = self.link();
        declare::topic(&link, &topic).await?;
        let shards = || 0..usize::from(topic.count());
        let streams = shards().map(|shard| topic.stream(shard).into()).collect();
        let since = shards().map(|_| AtomicU32::new(0)).collect();
        Ok(Publisher { shared: Arc::new(Shared { link, topic, streams, trim, since }) })
    }
}

impl Publisher {
    /// Removes the entries that every group has handled, from all shards. Returns how many.
    ///
    /// Redis removes whole blocks of about a hundred entries, so the newest handled entries stay.
    ///
    /// # Errors
    /// Returns an [`Error`] if Redis does not answer or refuses. Some shards may be trimmed.
    pub async fn trim(&self) -> Result<u64, Error> {
        let mut removed = 0;
        for stream in &self.shared.streams {
            removed += self.shared.trim(stream).await?;
        }
        Ok(removed)
    }
}

impl Shared {
    async fn add(&self, shard: usize, cmd: &Cmd) -> Result<(), Error> {
        let doing = "publishing a message";
        match self.link.ask(doing, cmd).await? {
            Value::BulkString(_) | Value::SimpleString(_) => {}
            Value::Nil => {
                return Err(Error::MissingStream { stream: self.topic.stream(shard) });
            }
            _ => return Err(Error::Answer { doing, expected: "the id of an entry" }),
        }
        let (Some(since), Some(stream)) = (self.since.get(shard), self.streams.get(shard)) else {
            return Ok(());
        };
        let published = since.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if self.trim == Trim::Handled && published.is_multiple_of(TRIM_EVERY) {
            // The message is published. A failure to trim is repeated after the next messages.
            let _failed = self.trim(stream).await;
        }
        Ok(())
    }

    async fn trim(&self, stream: &str) -> Result<u64, Error> {
        let doing = "trimming a stream";
        let trimming = self.link.run(doing, &HANDLED, |cmd| {
            cmd.arg(1).arg(stream);
        });
        let answer = trimming.await?;
        let removed = crate::value::integer(&answer).and_then(|number| number.try_into().ok());
        removed.ok_or(Error::Answer { doing, expected: "a number" })
    }
}

impl Service<Message> for Publisher {
    type Response = ();
    type Error = Error;
    type Future = Publish;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Publish {
        let shared = self.shared.clone();
        Publish(Box::pin(async move {
            entry::check(&message)?;
            let shard = shared.topic.shard_of(&message.key, &message.id);
            let stream = shared.streams.get(shard).map_or("", |stream| stream);
            let cmd = entry::add(stream, &message);
            drop(message);
            shared.add(shard, &cmd).await
        }))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

/// The future of a message on its way to Redis. After a drop it is unknown whether Redis has the message.
#[must_use = "futures do nothing unless polled"]
pub struct Publish(Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>);

impl Future for Publish {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").finish_non_exhaustive()
    }
}

/// The classifier for a relay over a [`Publisher`]: an outage uses up no attempt.
///
/// [`Error::Header`], [`Error::Rejected`] and [`Error::Answer`] are failures: after its attempts the message becomes a
/// dead letter. Every other error is ignored: Redis is unavailable, does not answer in time, is full, or has no stream.
/// The relay keeps the message and repeats it.
///
/// With the relay's default classifier, an outage that outlasts all attempts makes dead letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PublishErrors;

impl<T> Classify<T, Error> for PublishErrors {
    fn classify(&self, result: &Result<T, Error>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(Error::Header { .. } | Error::Rejected { .. } | Error::Answer { .. }) => {
                Outcome::Failure
            }
            Err(_) => Outcome::Ignored,
        }
    }
}
