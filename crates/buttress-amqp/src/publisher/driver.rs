//! [`Publishing`]: the task that owns the connection of a publisher, sends messages and reads their confirmations.
//!
//! One task for all callers: the client numbers the messages of a channel in the order of their sending, and two
//! callers that send concurrently would get the confirmations of each other.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use buttress::Clock;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::{mpsc, oneshot};

use super::confirms::{Confirms, Told, Verdict};
use super::shared::{Failure, Job, Line, Refusal, Shared};
use crate::declare;
use crate::error::{ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, SetupError, code};
use crate::rabbit::Rabbit;

/// How many messages are being published, before further ones wait.
const MOST: usize = 1024;
/// The waits between two attempts to connect.
const WAITS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// How long the end of a channel may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The task.
pub(super) struct Publishing {
    rabbit: Rabbit,
    shared: Arc<Shared>,
    clock: Clock,
}

impl Publishing {
    pub(super) fn new(rabbit: Rabbit, shared: Arc<Shared>, clock: Clock) -> Self {
        Self { rabbit, shared, clock }
    }

    /// Publishes until the last publisher is gone.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Job>, connection: Connection) {
        let [first, longest] = WAITS;
        let (mut connection, mut next, mut wait) = (Some(connection), None, first);
        let mut refusal = Refusal::default();
        loop {
            let job: Option<Job> = match next.take() {
                None => queue.recv().await,
                waiting => waiting,
            };
            let Some(job) = job else { return };
            if job.answer.is_closed() {
                continue;
            }
            if let Some(error) = refusal.answer(self.clock.now()) {
                // The caller may be gone.
                let _gone = job.answer.send(Err(Failure::Setup(error)));
                continue;
            }
            let opened = match self.reach(connection.take()).await {
                Ok(reached) => {
                    let reached = connection.insert(reached);
                    self.open(reached).await.map(|channel| (&*reached, channel))
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok((opened, channel)) => {
                    (wait, refusal) = (first, Refusal::default());
                    next = Sending::new(&self, opened, channel).run(job, &mut queue).await;
                }
                Err(error) if error.is_lasting() => {
                    refusal.failed(error, self.clock.now());
                    next = Some(job);
                }
                Err(_away) => {
                    connection = None;
                    next = Some(job);
                    self.clock.sleep(wait).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// Returns the last connection if it still stands, or else a new one.
    async fn reach(&self, last: Option<Connection>) -> Result<Connection, SetupError> {
        match last.filter(|last| last.status().connected()) {
            Some(connection) => Ok(connection),
            None => self.rabbit.connect().await,
        }
    }

    /// Opens a channel that confirms. Declares the topic again: the server may be another one.
    async fn open(&self, connection: &Connection) -> Result<Channel, SetupError> {
        declare::topic(&self.rabbit, connection, &self.shared.topic).await?;
        *self.shared.line() = Line::of(connection);
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let opened = self.rabbit.within("opening a channel", opening).await?;
        let failed = |source| SetupError::Server { doing: "open a channel".to_owned(), source };
        opened.map_err(failed)
    }
}

/// The end of a publish.
struct Ended {
    id: String,
    size: usize,
    waits: Waits,
    result: Result<Confirmation, lapin::Error>,
}

/// The caller of a publish. It may stop waiting. The confirmation is read nevertheless: a message that came back may
/// come with it.
struct Waits {
    answer: oneshot::Sender<Result<(), Failure>>,
    left: Arc<AtomicUsize>,
    has_left: bool,
}

impl Waits {
    /// Waits for `confirmation`, and counts this caller while it is gone.
    async fn until<T>(&mut self, confirmation: impl Future<Output = T>) -> T {
        let mut confirmation = pin!(confirmation);
        poll_fn(|cx| {
            let confirmed = confirmation.as_mut().poll(cx);
            if confirmed.is_pending() && !self.has_left && self.answer.poll_closed(cx).is_ready() {
                self.has_left = true;
                self.left.fetch_add(1, Ordering::Relaxed);
            }
            confirmed
        })
        .await
    }

    fn answer(mut self, result: Result<(), Failure>) {
        if std::mem::take(&mut self.has_left) {
            self.left.fetch_sub(1, Ordering::Relaxed);
        }
        // The caller may be gone.
        let _gone = self.answer.send(result);
    }
}

/// Waits until the callers of half of the publishes have stopped waiting. Each of them wakes the task.
fn stuck(left: &AtomicUsize) -> impl Future<Output = ()> {
    poll_fn(|_| match left.load(Ordering::Relaxed) >= MOST / 2 {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

/// The messages that are being published on one channel.
struct Sending<'a> {
    of: &'a Publishing,
    connection: &'a Connection,
    channel: Channel,
    sent: FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    ended: Vec<Ended>,
    confirms: Confirms,
    /// How many of `sent` have a caller that has stopped waiting.
    left: Arc<AtomicUsize>,
}

impl<'a> Sending<'a> {
    fn new(of: &'a Publishing, connection: &'a Connection, channel: Channel) -> Self {
        let (sent, ended) = (FuturesUnordered::new(), Vec::new());
        let (confirms, left) = (Confirms::default(), Arc::default());
        Self { of, connection, channel, sent, ended, confirms, left }
    }

    /// Whether messages that the server does not confirm leave no room for others, e.g. messages of a queue whose
    /// replicas are unavailable. Their callers have stopped waiting.
    fn is_stuck(&self) -> bool {
        self.sent.len() >= MOST && self.left.load(Ordering::Relaxed) >= MOST / 2
    }

    /// Closes the channel, and with it every publish that is not confirmed.
    async fn close(&mut self) {
        let closing = self.channel.close(REPLY_SUCCESS, "".into());
        // A server that does not answer is disconnected by its heartbeats.
        let _closed = self.of.rabbit.within("closing a channel", closing).await;
    }

    fn is_up(&self) -> bool {
        self.channel.status().connected() && self.connection.status().connected()
    }

    /// Publishes until the channel is gone. Returns a message that was not sent.
    async fn run(mut self, first: Job, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut events = pin!(self.connection.events_listener());
        let mut next = Some(first);
        loop {
            if self.is_stuck() {
                self.close().await;
            }
            if !self.is_up() {
                self.last_words().await;
                return next;
            }
            if let Some(job) = next.take() {
                self.begin(job);
            }
            // Messages that were confirmed when they were sent have ended, and nothing else may wake this task for them.
            if !self.ended.is_empty() {
                self.take_in(None);
                self.judge();
            }
            let has_room = self.sent.len() < MOST && !self.of.shared.is_blocked();
            let has_sent = !self.sent.is_empty();
            tokio::select! {
                biased;
                ended = self.sent.next(), if has_sent => self.take_in(ended),
                () = stuck(&self.left), if self.sent.len() >= MOST => {}
                // The server blocks or unblocks the connection: there is room, or none.
                _event = events.next() => {}
                job = queue.recv(), if has_room => match job {
                    Some(job) => next = Some(job),
                    None => return None,
                },
            }
            self.judge();
            // The client writes together the messages that are there together.
            while next.is_none() && has_room && self.sent.len() < MOST {
                let Ok(job) = queue.try_recv() else { break };
                match self.is_up() {
                    true => self.begin(job),
                    false => next = Some(job),
                }
            }
        }
    }

    fn begin(&mut self, job: Job) {
        let Job { id, shard, properties, payload, ticket, answer } = job;
        // A caller whose future was dropped does not want the message sent later, behind other messages of its key.
        if answer.is_closed() || !ticket.send() {
            return;
        }
        let (channel, exchange) = (self.channel.clone(), self.of.shared.topic.name.as_str().into());
        let key = shard.to_string().as_str().into();
        let mut waits = Waits { answer, left: self.left.clone(), has_left: false };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut publishing = Box::pin(async move {
            let size = payload.len();
            let sent = channel.basic_publish(exchange, key, options, &payload, properties).await;
            drop(payload);
            let result = match sent {
                Ok(confirmation) => waits.until(confirmation).await,
                Err(error) => Err(error),
            };
            Ended { id, size, waits, result }
        });
        // The client numbers a message at its first poll.
        match publishing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => self.ended.push(ended),
            Poll::Pending => self.sent.push(publishing),
        }
    }

    /// Takes in an end, and all others that are there by now.
    fn take_in(&mut self, ended: Option<Ended>) {
        self.ended.extend(ended);
        let again = Arc::new(Again::default());
        let waker = Waker::from(again.clone());
        loop {
            match Pin::new(&mut self.sent).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(ended)) => self.ended.push(ended),
                Poll::Ready(None) => return,
                Poll::Pending if again.take() => {}
                Poll::Pending => return,
            }
        }
    }

    /// Waits for the ends of all that was sent over a channel that is gone.
    async fn last_words(&mut self) {
        let clock = &self.of.clock;
        let ends = clock.now() + LAST_WORDS;
        while !self.sent.is_empty() {
            let left = ends.saturating_duration_since(clock.now());
            let Some(ended) = clock.within(left, self.sent.next()).await else { break };
            self.take_in(ended);
        }
        self.judge();
    }

    /// Answers the callers of the publishes that have ended.
    fn judge(&mut self) {
        let is_alone = self.ended.len() == 1 && self.sent.is_empty();
        let mut told = Vec::with_capacity(self.ended.len());
        for Ended { id, size, waits, result } in std::mem::take(&mut self.ended) {
            let told_by = match result {
                Ok(Confirmation::Ack(message)) => Told::Ack(message.map(returned)),
                Ok(Confirmation::Nack(message)) => Told::Nack(message.map(returned)),
                Ok(Confirmation::NotRequested) => Told::Nack(None),
                Err(error) => {
                    waits.answer(Err(failure(error, size, is_alone)));
                    continue;
                }
            };
            told.push((id, told_by, waits));
        }
        for (waits, verdict) in self.confirms.judge(told) {
            waits.answer(match verdict {
                Verdict::Confirmed => Ok(()),
                Verdict::Returned => Err(Failure::Returned),
                Verdict::Refused => Err(Failure::Full),
                Verdict::Unknown => Err(Failure::Lost),
            });
        }
        if self.sent.is_empty() {
            self.confirms.clear();
        }
    }
}

/// Returns the id of a returned message.
fn returned(message: lapin::message::BasicReturnMessage) -> String {
    message.delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Returns why a message was not confirmed. An error of the channel is about one message, and ends all of them.
fn failure(error: lapin::Error, size: usize, is_alone: bool) -> Failure {
    match code(&error) {
        Some(PRECONDITION_FAILED) => match largest(&error.to_string()) {
            Some(limit) if size > limit => Failure::TooLarge(limit),
            None if is_alone => Failure::Server(error),
            _ => Failure::Lost,
        },
        Some(NOT_FOUND | ACCESS_REFUSED) => Failure::Server(error),
        _ => Failure::Lost,
    }
}

/// Reads "message size 17 is larger than configured max size 16".
pub(super) fn largest(text: &str) -> Option<usize> {
    let (_, limit) = text.split_once("larger than configured max size ")?;
    let digits = limit.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whether the set of publishes asked to be polled again.
#[derive(Default)]
struct Again(Mutex<bool>);

impl Again {
    fn take(&self) -> bool {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
