//! [`Member`]: the thread of a member. It alone calls the client, but for commits, whose answers another thread awaits.
//!
//! The client asks for a rebalance and waits for the answer. So the thread need not block: until the messages of a
//! revoked partition are handled, it continues as always, and then it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use buttress::{Clock, StoreError};

use crate::client::{Code, Consumer, Error, Event, Message, Positions, Properties, Queue, log};
use crate::headers;
use crate::subscribe::Subscribe;
use crate::subscription::{Record, Shared, Stage};

mod failures;
mod leaving;
mod missing_position;

use leaving::{Ending, Leaving, Release, Step};
use missing_position::is_stray;

/// The longest sleep. The client wakes the thread for messages, the consumer for room.
const LOOK: Duration = Duration::from_millis(50);
/// How often positions are committed.
const COMMIT: Duration = Duration::from_millis(100);
/// The longest wait for an answer on this thread.
const ANSWER: Duration = Duration::from_secs(2);
/// The most messages that are taken from a partition in one turn.
const AT_ONCE: usize = 64;

pub(crate) struct Member {
    clock: Clock,
    /// Before the consumer, because they must be dropped before it.
    queues: BTreeMap<i32, Queue>,
    /// Passes positions to the thread that commits.
    commits: Sender<Positions>,
    committing: JoinHandle<()>,
    consumer: Consumer,
    shared: Arc<Shared>,
    topic: String,
    grace: Duration,
    session: Duration,
    /// Whether a commit is in progress.
    commits_now: bool,
    next_commit: Instant,
    leaving: Option<Leaving>,
    /// Partitions whose position the topic does not have.
    stray: BTreeSet<i32>,
    /// The last failure, until messages come again. It is reported once.
    trouble: Option<Code>,
    /// The end of the member, once it has begun.
    ending: Option<Ending>,
}

impl Member {
    pub(crate) fn new(
        properties: &Properties,
        topic: &str,
        settings: &Subscribe,
        shared: Arc<Shared>,
    ) -> Result<Self, StoreError> {
        let failed = |error: Error| {
            let why = format!("the topic `{topic}`: cannot create a client");
            StoreError::misconfigured(why).with_source(error)
        };
        let waking = shared.clone();
        let consumer = Consumer::new(properties, topic, move || waking.wake()).map_err(failed)?;
        consumer.subscribe().map_err(failed)?;
        let clock = Clock::default();
        let (commits, requests) = std::sync::mpsc::channel::<Positions>();
        let (client, waking) = (consumer.clone(), shared.clone());
        let committing = spawn("kafka-commits", move || {
            while let Ok(positions) = requests.recv() {
                let committed = client.commit(&positions);
                client.push_event(Event::Committed(positions, committed));
                waking.wake();
            }
        })?;
        Ok(Self {
            next_commit: clock.now(),
            clock,
            consumer,
            queues: BTreeMap::new(),
            commits,
            committing,
            shared,
            topic: topic.to_owned(),
            grace: settings.grace,
            session: settings.session,
            commits_now: false,
            leaving: None,
            stray: BTreeSet::new(),
            trouble: None,
            ending: None,
        })
    }

    pub(crate) fn run(mut self) {
        // Also after a panic: the consumer must not wait forever.
        let ended = Ended(self.shared.clone());
        while !self.is_over() {
            let mut progressed = self.listen();
            progressed |= self.fetch();
            self.leave();
            self.commit();
            if !progressed {
                std::thread::park_timeout(LOOK);
            }
        }
        self.consumer.end();
        let Self { queues, commits, committing, consumer, .. } = self;
        drop((queues, commits));
        // A panic there was printed.
        let _ended = committing.join();
        // Leaves the group.
        drop(consumer);
        drop(ended);
    }

    /// Returns `true` once the member may end.
    fn is_over(&mut self) -> bool {
        let stage = self.shared.pending().stage;
        if matches!(stage, Stage::New | Stage::Running) {
            return false;
        }
        let now = self.clock.now();
        let pending = self.shared.pending();
        let (owns, is_committed) =
            (!pending.table.is_empty(), pending.table.positions().is_empty());
        drop(pending);
        let ending = self.ending.get_or_insert_with(|| Ending::new(now));
        match ending.step(now, is_committed, owns || self.leaving.is_some(), self.grace) {
            Step::Wait => false,
            Step::Unsubscribe => {
                self.consumer.unsubscribe();
                false
            }
            Step::End => true,
        }
    }

    /// Handles the events of the client. Returns `true` if there were any.
    fn listen(&mut self) -> bool {
        let mut progressed = false;
        loop {
            let consumer = self.consumer.clone();
            match consumer.poll() {
                // A message of a partition without a queue.
                Some(Ok(message)) => self.come(vec![record(&message)]),
                Some(Err(error)) => self.failed(error),
                None => match consumer.next_event() {
                    Some(event) => self.handle(event),
                    None => return progressed,
                },
            }
            progressed = true;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Assigned(partitions) => {
                self.trouble = None;
                self.shared.pending().table.assign(&partitions);
                for partition in &partitions {
                    // Before the client begins to fetch, so that all messages go through the queue.
                    let Some(queue) = self.consumer.split(*partition) else { continue };
                    self.queues.insert(*partition, queue);
                }
                log(self.consumer.assign(&partitions));
            }
            Event::Revoked(partitions) if self.consumer.is_assignment_lost() => {
                // Other members have them already.
                self.leaving = None;
                self.answer(&partitions);
            }
            Event::Revoked(partitions) => {
                let mut pending = self.shared.pending();
                let dropped = pending.stage == Stage::Dropped;
                let grace = if dropped { Duration::ZERO } else { self.grace };
                pending.table.leave(&partitions, self.clock.now() + grace);
                drop(pending);
                self.leaving = Some(Leaving::new(partitions, self.session));
            }
            Event::Committed(positions, result) => {
                self.commits_now = false;
                let failure = result.as_ref().err().and_then(Error::code);
                if let Some(leaving) = &mut self.leaving {
                    leaving.answered(self.clock.now(), failure);
                }
                match result {
                    Ok(()) => self.shared.pending().table.committed(&positions),
                    // Repeated at the next commit, if the partitions are still here.
                    Err(error) => {
                        tracing::debug!(target: "buttress", %error, "the brokers did not commit the positions of a group");
                    }
                }
            }
        }
    }

    /// Answers a revocation, once no message is being handled and the positions are committed.
    fn leave(&mut self) {
        let now = self.clock.now();
        let Some(leaving) = &mut self.leaving else { return };
        let pending = self.shared.pending();
        if !pending.table.has_left(now) {
            return;
        }
        let moved = pending.table.positions();
        drop(pending);
        let is_moved = |partition| moved.iter().any(|(moved, _)| moved == partition);
        let is_committed = !leaving.partitions.iter().any(is_moved);
        match leaving.step(now, is_committed) {
            Release::Commit if !self.commits_now => {
                leaving.asked();
                self.send_commit(moved);
            }
            Release::Wait | Release::Commit => {}
            Release::Answer => {
                if let Some(leaving) = self.leaving.take() {
                    self.answer(&leaving.partitions);
                }
            }
        }
    }

    /// Forgets partitions, and notifies the client.
    fn answer(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.queues.remove(partition);
        }
        self.shared.pending().table.remove(partitions);
        self.shared.notify();
        log(self.consumer.unassign(partitions));
    }

    /// Takes messages from the client. Returns whether there were any.
    fn fetch(&mut self) -> bool {
        let (mut came, mut failures) = (Vec::new(), Vec::new());
        for (partition, queue) in &self.queues {
            let room = self.shared.pending().table.room(*partition);
            for _ in 0..room.min(AT_ONCE) {
                match queue.poll() {
                    Some(Ok(message)) => came.push(record(&message)),
                    Some(Err(error)) if is_stray(&error) => {
                        self.stray.insert(*partition);
                    }
                    Some(Err(error)) => failures.push(error),
                    None => break,
                }
            }
        }
        let progressed = !came.is_empty() || !failures.is_empty();
        self.come(came);
        failures.into_iter().for_each(|error| self.failed(error));
        progressed
    }

    fn come(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        self.trouble = None;
        let mut pending = self.shared.pending();
        for record in records {
            let size = record.size();
            pending.table.come(record.partition, record.offset, record, size);
        }
        drop(pending);
        self.shared.notify();
    }

    /// Commits the positions that have moved.
    fn commit(&mut self) {
        let now = self.clock.now();
        // A commit during a rebalance can hold the rebalance up.
        if self.leaving.is_some() || now < self.next_commit {
            return;
        }
        self.next_commit = now + COMMIT;
        for partition in std::mem::take(&mut self.stray) {
            if let Err(error) = self.recover(partition) {
                tracing::debug!(target: "buttress", %error, partition, "cannot find the first message of a partition");
                self.stray.insert(partition);
            }
        }
        let moved = self.shared.pending().table.positions();
        if !moved.is_empty() {
            self.send_commit(moved);
        }
    }

    /// Commits positions, unless a commit is in progress.
    fn send_commit(&mut self, positions: Positions) {
        // The thread ends after this one.
        self.commits_now = self.commits_now || self.commits.send(positions).is_ok();
    }
}

/// Says that the thread has ended.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn record(message: &Message<'_>) -> Record {
    let (topic, headers) = headers::read(message.headers(), message.topic());
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: String::from_utf8_lossy(message.key()).into_owned(),
        topic,
        payload: message.payload().to_vec(),
        headers,
    }
}

/// Starts a thread.
pub(crate) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let why = "cannot start a thread for a member of a group";
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| StoreError::transient(why).with_source(error))
}
