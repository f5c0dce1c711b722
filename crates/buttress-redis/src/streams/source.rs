//! [`RedisSource`]: one member of a consumer group, as the source of a consumer.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use buttress::{Clock, Rng, StoreError};
use buttress_durable::consume::{Answer, Batch, Limits, Received, Settle, Shard, Source};
use tokio::sync::Notify;

use super::declare;
use super::entry_id::EntryId;
use super::fetch::Fetch;
use super::scripts::{Commands, Entry};
use super::source_config::{OpenError, SourceConfig};
use super::state::{Claim, Leases, Page, Read, Step, Token};
use super::topic::{Topic, check_name};
use crate::address::Redis;
use crate::error::Error;

/// The most entries that one script acknowledges. Lua has a limit for the arguments of a call.
const ACKNOWLEDGED: usize = 2000;

/// The token that settles one delivery of a [`RedisSource`]. It carries the lease of the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedisToken(Token);

/// A question to Redis.
type Asking<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// A wait for entries behind some ids. Answers the shards that have some.
struct Waiting {
    after: Vec<(usize, EntryId)>,
    entries: Asking<Vec<usize>>,
}

/// Reads in progress, and their pages. `None` stands for a lease with another owner.
struct Reading {
    reads: Vec<Read>,
    pages: Asking<Vec<Option<Page<Entry>>>>,
}

/// Questions that outlive a call of `receive`.
#[derive(Default)]
struct UnderWay {
    waiting: Option<Waiting>,
    reading: Option<Reading>,
    /// Whether an error was reported to the consumer, and its end was not yet.
    in_trouble: bool,
    /// Whether Redis has answered since the last error.
    has_answered: bool,
}

/// The end of a wait.
enum Woken {
    Entries(Result<Vec<usize>, Error>),
    Pages(Result<Vec<Option<Page<Entry>>>, Error>),
    /// The consumer has room, has settled messages, or the time has come.
    Other,
}

/// One member of a consumer group of a [`Topic`]: the [`Source`] of a
/// [`Consumer`](buttress_durable::consume::Consumer).
///
/// The members of a group share the shards. Each shard has a lease in Redis, which its member renews. If a process
/// ends without notice, its leases end, and other members take over the shards with the messages that were not
/// settled.
pub struct RedisSource {
    commands: Arc<Commands>,
    leases: Mutex<Leases<Entry>>,
    under_way: tokio::sync::Mutex<UnderWay>,
    changed: Notify,
    clock: Clock,
    lease: Duration,
}

impl Redis {
    /// Joins a consumer group of a topic. Creates the topic and the group unless they exist.
    ///
    /// # Errors
    /// Returns an [`OpenError`] if a setting is out of its bounds, or if Redis does not answer, refuses the
    /// credentials, or has the topic with another number of shards.
    ///
    /// # Cancel safety
    /// If the future is dropped, the group may exist on some streams. A repeated call creates it on the other streams.
    pub async fn source(
        &self,
        topic: Topic,
        group: &str,
        config: SourceConfig,
    ) -> Result<RedisSource, OpenError> {
        config.check()?;
        check_name("group", group)?;
        let link = self.link();
        declare::topic(&link, &topic).await?;
        declare::group(&link, &topic, group, config.start).await?;
        let (clock, lease) = (self.the_clock().clone(), config.lease);
        let rng = Rng::default();
        let me = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
        let leases = Leases::new(config.rules(), topic.count().into(), clock.now());
        let (group, waits, fetch) = (group.to_owned(), self.link(), Fetch::new(self.link()));
        Ok(RedisSource {
            commands: Arc::new(Commands { link, waits, fetch, topic, group, me, lease }),
            leases: Mutex::new(leases),
            under_way: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            clock,
            lease,
        })
    }
}

impl RedisSource {
    /// Returns how many shards this member has now.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.with(|leases| leases.claims().len())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Leases<Entry>) -> T) -> T {
        f(&mut self.leases.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn tick(&self, claims: Vec<Claim>) -> Result<(), Error> {
        // The lease counts from before the question: it ends here before it ends in Redis.
        let asked = self.clock.now();
        let seen = self.commands.tick(&claims).await?;
        let now = self.clock.now();
        self.with(|leases| leases.ticked(asked, now, &claims, &seen));
        Ok(())
    }

    /// Begins to read. The buffered entries are delivered meanwhile.
    fn read(&self, reads: Vec<Read>) -> Reading {
        let (commands, asked) = (self.commands.clone(), reads.clone());
        Reading { reads, pages: Box::pin(async move { commands.read(&asked).await }) }
    }

    /// Does one step. Returns a batch if the step was to deliver one.
    async fn step(&self, under_way: &mut UnderWay) -> Result<Option<Batch<RedisToken>>, Error> {
        let now = self.clock.now();
        match self.with(|leases| leases.next(now)) {
            Step::Deliver { entries, revoked, lost } => {
                let messages = entries.into_iter().map(|(token, entry)| received(token, entry));
                let mut batch = Batch::new(messages.collect());
                batch.revoked = revoked.into_iter().map(|shard| Shard(shard as u64)).collect();
                batch.lost = lost;
                return Ok(Some(batch));
            }
            Step::Tick(claims) => {
                self.tick(claims).await?;
                under_way.has_answered = true;
            }
            Step::Take(claim) => {
                let asked = self.clock.now();
                if self.commands.take(claim).await? {
                    self.with(|leases| leases.taken(asked, claim));
                }
            }
            Step::Release(claim) => {
                self.commands.release(&[claim], false).await?;
                self.with(|leases| leases.released(claim));
            }
            Step::Read(reads) => under_way.reading = Some(self.read(reads)),
            Step::Wait { until, after } => self.wait(under_way, until, after).await?,
        }
        Ok(None)
    }

    /// Waits for an entry, for the pages of a read, for the consumer, or until a time.
    async fn wait(
        &self,
        under_way: &mut UnderWay,
        until: Instant,
        after: Vec<(usize, EntryId)>,
    ) -> Result<(), Error> {
        let UnderWay { waiting, reading, .. } = under_way;
        if let Some(Waiting { after: known, entries }) = waiting
            && *known != after
        {
            let ended = poll_fn(|cx| Poll::Ready(entries.as_mut().poll(cx).is_ready())).await;
            *waiting = None;
            if !ended {
                // Redis would answer the next wait only after this one.
                self.commands.waits.close();
            }
        }
        if waiting.is_none() && !after.is_empty() {
            let (commands, points) = (self.commands.clone(), after.clone());
            let entries = Box::pin(async move { commands.wait(&points).await });
            *waiting = Some(Waiting { after, entries });
        }
        let mut changed = pin!(self.changed.notified());
        let mut timer = pin!(self.clock.sleep_until(until));
        let woken = poll_fn(|cx| {
            if let Some(Reading { pages, .. }) = reading
                && let Poll::Ready(pages) = pages.as_mut().poll(cx)
            {
                return Poll::Ready(Woken::Pages(pages));
            }
            if let Some(Waiting { entries, .. }) = waiting
                && let Poll::Ready(woken) = entries.as_mut().poll(cx)
            {
                return Poll::Ready(Woken::Entries(woken));
            }
            if changed.as_mut().poll(cx).is_ready() || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Other);
            }
            Poll::Pending
        });
        match woken.await {
            Woken::Pages(pages) => {
                let reads = reading.take().map(|reading| reading.reads).unwrap_or_default();
                // Redis may have answered, and the answer was lost.
                let pages = pages.inspect_err(|_| self.with(Leases::failed))?;
                self.with(|leases| leases.answered(&reads, pages));
            }
            Woken::Entries(woken) => {
                *waiting = None;
                let woken = woken?;
                self.with(|leases| leases.woken(&woken));
            }
            Woken::Other => {}
        }
        Ok(())
    }
}

fn received(token: Token, entry: Entry) -> Received<RedisToken> {
    let Entry { content, redeliveries } = entry;
    let shard = Shard(token.shard as u64);
    let mut received = Received::of(RedisToken(token), shard, Arc::new(content));
    received.place = Some(token.id.place());
    received.redeliveries = Some(redeliveries);
    received
}

impl Source for RedisSource {
    type Token = RedisToken;

    fn name(&self) -> &str {
        self.commands.topic.name()
    }

    fn group(&self) -> &str {
        &self.commands.group
    }

    /// Redis holds no delay, and counts deliveries. The consumer keeps the leases while it drains.
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.keep = Some(self.lease / 2);
        limits
    }

    fn want(&self, room: usize) {
        self.with(|leases| leases.want(room));
        self.changed.notify_one();
    }

    async fn receive(&self) -> Result<Batch<RedisToken>, StoreError> {
        let mut under_way = self.under_way.lock().await;
        loop {
            let stepped = self.step(&mut under_way).await;
            match stepped {
                // An outage ends with the first answer. On an idle topic no entry would show it.
                Ok(None) if under_way.in_trouble && under_way.has_answered => {
                    under_way.in_trouble = false;
                    return Ok(Batch::default());
                }
                Ok(None) => {}
                Ok(Some(batch)) => {
                    under_way.in_trouble = false;
                    return Ok(batch);
                }
                Err(error) => {
                    (under_way.in_trouble, under_way.has_answered) = (true, false);
                    if matches!(error, Error::Unavailable { .. } | Error::TooSlow { .. }) {
                        // The other connections broke too, most likely. Each would be a separate outage.
                        self.commands.reconnect();
                        under_way.waiting = None;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn settle(&self, done: &[(RedisToken, Settle)]) -> Result<Vec<Answer>, StoreError> {
        let mut answers = Vec::with_capacity(done.len());
        for done in done.chunks(ACKNOWLEDGED) {
            answers.extend(self.acknowledge(done).await?);
        }
        self.changed.notify_one();
        Ok(answers)
    }

    async fn keep(&self, held: &[RedisToken]) -> Result<Vec<Answer>, StoreError> {
        let now = self.clock.now();
        // `receive` renews the leases as long as the consumer calls it.
        if self.with(|leases| leases.is_due(now)) {
            let claims = self.with(|leases| leases.claims());
            self.tick(claims).await?;
        }
        Ok(self.with(|leases| {
            let current = |token: &RedisToken| leases.is_current(&token.0);
            let answer = |token| if current(token) { Answer::Taken } else { Answer::Late };
            held.iter().map(answer).collect()
        }))
    }

    async fn close(&self) -> Result<(), StoreError> {
        let claims = self.with(|leases| leases.claims());
        Ok(self.commands.release(&claims, true).await?)
    }
}

impl RedisSource {
    async fn acknowledge(&self, done: &[(RedisToken, Settle)]) -> Result<Vec<Answer>, Error> {
        let mut by_lease: BTreeMap<usize, (Claim, Vec<Token>)> = BTreeMap::new();
        self.with(|leases| {
            let done = done.iter().filter(|(_, how)| *how == Settle::Done);
            for RedisToken(token) in done.map(|(token, _)| token) {
                if leases.is_current(token) {
                    let claim = Claim { shard: token.shard, epoch: token.epoch };
                    by_lease.entry(token.shard).or_insert((claim, Vec::new())).1.push(*token);
                }
            }
        });
        let by_lease: Vec<_> = by_lease.into_values().collect();
        let owned = match by_lease.is_empty() {
            true => Vec::new(),
            false => self.commands.acknowledge(&by_lease).await?,
        };
        Ok(self.with(|leases| {
            for ((claim, _), owned) in by_lease.iter().zip(owned) {
                if !owned {
                    leases.fenced(*claim);
                }
            }
            let answer = |(RedisToken(token), how): &(RedisToken, Settle)| {
                // An entry that was returned needs no command: it is pending until a member claims it.
                if !leases.is_current(token) {
                    return Answer::Late;
                }
                leases.settled(token, *how);
                Answer::Taken
            };
            done.iter().map(answer).collect()
        }))
    }
}

impl fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSource")
            .field("topic", &self.commands.topic)
            .field("group", &self.commands.group)
            .finish_non_exhaustive()
    }
}
