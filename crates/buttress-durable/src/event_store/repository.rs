//! [`Repository`]: loads aggregates, and executes commands on them.

mod snapshotting;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, Codec, Format, Rng};

use super::aggregate::{Aggregate, Failed, Loaded};
use super::batch::{AppendError, Appended, Expected, NewBatch, NewEvent};
use super::decoder::{Decoder, Upcasters};
use super::log::Log;
use super::recorded::Recorded;
use super::store::{Append, Store};
use super::stream::{StreamId, Version};
use crate::event::{DomainEvent, newest};
use crate::outbox::MessageId;
use crate::setters::setters;
use snapshotting::Snapshots;

/// How many events a load reads with one query at most.
const PAGE: usize = 500;

/// A repository, which loads aggregates of one kind and executes commands on them. Cheap to clone if the codec is.
///
/// The [module](super) page has an example.
#[must_use]
pub struct Repository<A, St, C> {
    log: Log<St>,
    decoder: Decoder<C>,
    retries: u32,
    backoff: Backoff,
    snapshots: Option<Snapshots<A, C>>,
    clock: Clock,
    rng: Rng,
    aggregate: PhantomData<fn() -> A>,
}

impl<A, St, C> Repository<A, St, C>
where
    A: Aggregate,
    St: Store,
    C: Codec<A::Event> + Format<Encoded = Vec<u8>>,
{
    /// Creates a repository that encodes events with `codec`. Without upcasters and snapshots.
    pub fn new(log: &Log<St>, codec: C) -> Self {
        let backoff =
            Backoff::exponential(Duration::from_millis(5)).cap(Duration::from_millis(200));
        Self {
            log: log.clone(),
            decoder: Decoder::new(codec),
            retries: 10,
            backoff,
            snapshots: None,
            clock: Clock::default(),
            rng: Rng::default(),
            aggregate: PhantomData,
        }
    }

    /// Sets the upcasters. Default: none.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.decoder = self.decoder.upcasters(upcasters);
        self
    }

    /// Sets how many times [`execute`](Self::execute) tries again after a conflict or a transient error, and the wait
    /// before each retry. Default: 10 retries, exponential from 5 ms to 200 ms with full jitter. With fewer retries,
    /// commands often fail on a stream with many concurrent writers.
    pub fn retry(mut self, retries: u32, backoff: Backoff) -> Self {
        self.retries = retries;
        self.backoff = backoff;
        self
    }

    /// Saves a snapshot whenever a command takes a stream past a multiple of `every` events; 0 saves none. A load then
    /// reads the events after the snapshot only. Default: no snapshots. 100 is a good first value.
    ///
    /// Raise `schema` whenever the state's type or the meaning of `apply` changes: a load ignores snapshots of another
    /// schema.
    pub fn snapshots(mut self, every: u64, schema: u32) -> Self
    where
        A: Clone,
        C: Codec<A>,
    {
        self.snapshots = (every > 0).then_some(Snapshots {
            every,
            schema,
            encode: |codec, state| codec.encode(&Arc::new(state.clone())),
            decode: |codec, data| {
                let state: Arc<A> = codec.decode(data)?;
                Ok(Arc::try_unwrap(state).unwrap_or_else(|shared| (*shared).clone()))
            },
        });
        self
    }

    setters! {
        /// Sets the clock of the waits. Default: tokio's clock.
        clock(clock: Clock);

        /// Sets the source of event ids and jitter. Default: a source with a different seed in every process.
        rng(rng: Rng);
    }

    /// Returns the log.
    pub fn log(&self) -> &Log<St> {
        &self.log
    }

    /// Returns the stream of the aggregate `id`.
    #[must_use]
    pub fn stream(&self, id: &str) -> StreamId {
        StreamId::new(A::KIND, id)
    }

    /// Loads an aggregate. One without events has the default state and version 0.
    ///
    /// # Errors
    /// Returns [`Failed::Undecodable`] if an event cannot be decoded, and [`Failed::Store`] if the store fails.
    pub async fn load(&self, id: &str) -> Result<Loaded<A>, Failed<A::Error>> {
        self.load_stream(&self.stream(id), true).await
    }

    /// Decides about `command`, and appends the events that it causes. Returns the state with these events.
    ///
    /// After a conflict it reads the events of the other writers and decides again. After a transient error of an
    /// append it repeats the append with the same event ids, so the events are written once. A caller that repeats the
    /// whole command decides again instead.
    ///
    /// # Errors
    /// Returns [`Failed`] with the reason.
    ///
    /// # Cancel safety
    /// If the future is dropped, the events may have been written. The store writes all events of a command or none.
    pub async fn execute(
        &self,
        id: &str,
        command: &A::Command,
    ) -> Result<Loaded<A>, Failed<A::Error>> {
        let stream = self.stream(id);
        let mut loaded = self.load_stream(&stream, true).await?;
        let (mut retries, mut wait) = (0, Duration::ZERO);
        loop {
            let Some((batch, events)) = self.decide(&stream, &loaded, command)? else {
                return Ok(loaded);
            };
            let actual = loop {
                match self.log.append(&batch).await {
                    Ok(appended) => {
                        let loaded = add(loaded, events, appended);
                        if let Some(snapshot) = self.snapshot_after(&stream, &loaded, appended) {
                            self.save(snapshot).await;
                        }
                        return Ok(loaded);
                    }
                    Err(AppendError::Conflict { actual, .. }) if retries < self.retries => {
                        break actual;
                    }
                    Err(AppendError::Store(error))
                        if error.is_transient() && retries < self.retries => {}
                    Err(error) => return Err(failed(error, loaded.version)),
                }
                self.wait(&mut retries, &mut wait).await;
            };
            self.wait(&mut retries, &mut wait).await;
            if actual < loaded.version {
                // The snapshot is from after the point to which the events were restored.
                loaded = self.load_stream(&stream, false).await?;
            } else {
                self.catch_up(&stream, &mut loaded).await?;
            }
        }
    }

    /// Decides about `command` in the caller's transaction, and appends the events that it causes in it. They exist if
    /// the transaction commits. Call [`Log::committed`] then.
    ///
    /// The transaction sees its own events, so several commands can follow each other in it. Does not repeat after an
    /// error: the caller repeats the whole transaction. Saves no snapshot, because the transaction may be rolled back.
    /// Call [`save_snapshot`](Self::save_snapshot) after the commit.
    ///
    /// # Errors
    /// Returns [`Failed`] with the reason. Roll the transaction back after [`Failed::Store`].
    pub async fn execute_in<Tx>(
        &self,
        tx: &mut Tx,
        id: &str,
        command: &A::Command,
    ) -> Result<Loaded<A>, Failed<A::Error>>
    where
        St: Append<Tx>,
        Tx: Send,
    {
        let (stream, store) = (self.stream(id), self.log.store());
        let mut snapshots = self.snapshots.as_ref();
        loop {
            let mut loaded = Loaded::start();
            if let Some(snapshots) = snapshots {
                let found = store.load_snapshot_in(tx, &stream).await;
                loaded = self.start_from(snapshots, &stream, found)?;
            }
            loop {
                let page = store.read_stream_in(tx, &stream, loaded.version, PAGE).await?;
                self.apply(&mut loaded, &page.events)?;
                if page.is_end {
                    break;
                }
            }
            let Some((batch, events)) = self.decide(&stream, &loaded, command)? else {
                return Ok(loaded);
            };
            match store.append_in(tx, &batch).await {
                Ok(appended) => return Ok(add(loaded, events, appended)),
                // The snapshot is from after the point to which the events were restored.
                Err(AppendError::Conflict { actual, .. })
                    if actual < loaded.version && snapshots.take().is_some() => {}
                Err(error) => return Err(failed(error, loaded.version)),
            }
        }
    }

    async fn load_stream(
        &self,
        stream: &StreamId,
        use_snapshot: bool,
    ) -> Result<Loaded<A>, Failed<A::Error>> {
        let mut loaded = Loaded::start();
        if let Some(snapshots) = self.snapshots.as_ref().filter(|_| use_snapshot) {
            let found = self.log.store().load_snapshot(stream).await;
            loaded = self.start_from(snapshots, stream, found)?;
        }
        self.catch_up(stream, &mut loaded).await?;
        Ok(loaded)
    }

    /// Applies the events after the version of `loaded`.
    async fn catch_up(
        &self,
        stream: &StreamId,
        loaded: &mut Loaded<A>,
    ) -> Result<(), Failed<A::Error>> {
        loop {
            let page = self.log.store().read_stream(stream, loaded.version, PAGE).await?;
            self.apply(loaded, &page.events)?;
            if page.is_end {
                return Ok(());
            }
        }
    }

    fn apply(&self, loaded: &mut Loaded<A>, page: &[Recorded]) -> Result<(), Failed<A::Error>> {
        for recorded in page {
            let event = self.decoder.decode::<A::Event>(recorded)?;
            loaded.state.apply(&event);
            loaded.version = recorded.version;
        }
        Ok(())
    }

    /// Decides about a command. Returns the events in both forms; `None` if there are none.
    #[expect(clippy::type_complexity, reason = "a batch and its events, used twice here")]
    fn decide(
        &self,
        stream: &StreamId,
        loaded: &Loaded<A>,
        command: &A::Command,
    ) -> Result<Option<(NewBatch, Vec<Arc<A::Event>>)>, Failed<A::Error>> {
        let events = loaded.state.decide(command).map_err(Failed::Refused)?;
        if events.is_empty() {
            return Ok(None);
        }
        let events: Vec<Arc<A::Event>> = events.into_iter().map(Arc::new).collect();
        let headers = crate::event::current_headers();
        let encoded: Result<Vec<NewEvent>, Failed<A::Error>> = events
            .iter()
            .map(|event| {
                let (kind, schema) = (event.kind().to_owned(), event.version());
                if newest::<A::Event>(&kind).is_none_or(|newest| schema > newest) {
                    return Err(Failed::Unlisted { kind, schema });
                }
                match self.decoder.codec.encode(event) {
                    Ok(data) => {
                        let id = MessageId::random(&self.rng);
                        let mut event = NewEvent::new(id, kind, data).schema(schema);
                        event.headers.clone_from(&headers);
                        Ok(event)
                    }
                    Err(source) => Err(Failed::Unencodable { kind, schema, source }),
                }
            })
            .collect();
        let expected = Expected::Exactly(loaded.version);
        Ok(Some((NewBatch::new(stream.clone(), expected, encoded?), events)))
    }

    async fn wait(&self, retries: &mut u32, wait: &mut Duration) {
        *wait = self.backoff.delay(*retries, *wait, &self.rng);
        *retries += 1;
        if !wait.is_zero() {
            self.clock.sleep(*wait).await;
        }
    }
}

/// Adds appended events to the state.
fn add<A: Aggregate>(
    mut loaded: Loaded<A>,
    events: Vec<Arc<A::Event>>,
    appended: Appended,
) -> Loaded<A> {
    for event in &events {
        loaded.state.apply(event);
    }
    loaded.version = appended.last;
    loaded.events = events;
    loaded
}

fn failed<E>(error: AppendError, expected: Version) -> Failed<E> {
    match error {
        AppendError::Conflict { stream, actual, .. } => {
            Failed::Conflict { stream, expected, actual }
        }
        AppendError::Closed { stream } => Failed::Closed { stream },
        AppendError::Store(error) => Failed::Store(error),
    }
}

impl<A, St, C: Clone> Clone for Repository<A, St, C> {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            decoder: self.decoder.clone(),
            retries: self.retries,
            backoff: self.backoff,
            snapshots: self.snapshots,
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            aggregate: PhantomData,
        }
    }
}

impl<A: Aggregate, St, C> fmt::Debug for Repository<A, St, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("kind", &A::KIND)
            .field("retries", &self.retries)
            .field("snapshot_every", &self.snapshots.map(|snapshots| snapshots.every))
            .finish_non_exhaustive()
    }
}
