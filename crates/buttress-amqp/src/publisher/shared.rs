//! What callers and the task share: messages, their tickets, and the state of the connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapin::{BasicProperties, Connection, ConnectionStatus};
use tokio::sync::oneshot;

use crate::error::{ACCESS_REFUSED, NOT_FOUND, PublishError, SetupError, code};
use crate::topic::Topic;

/// A message to publish.
pub(super) struct Job {
    pub id: String,
    pub shard: u16,
    pub properties: BasicProperties,
    pub payload: Vec<u8>,
    pub ticket: Ticket,
    pub answer: oneshot::Sender<Result<(), Failure>>,
}

/// Whether a message is being sent, or its caller has stopped waiting. One of both happens first.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket(Arc<Mutex<Option<Ends>>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    Sent,
    GivenUp,
}

impl Ticket {
    fn first(&self, ends: Ends) -> bool {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *first.get_or_insert(ends) == ends
    }

    /// Returns `true` if the message was not sent, and never will be.
    pub(super) fn give_up(&self) -> bool {
        self.first(Ends::GivenUp)
    }

    /// Returns `true` if the caller still waits. The message is sent then.
    pub(super) fn send(&self) -> bool {
        self.first(Ends::Sent)
    }
}

/// An error that only a person can fix, and how long jobs are answered with it before the task tries again. A try is
/// a connection and a login.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    last: Option<(SetupError, Instant)>,
    wait: Duration,
}

impl Refusal {
    /// The first and the longest wait.
    const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

    /// Records the error of a try.
    pub(super) fn failed(&mut self, error: SetupError, now: Instant) {
        let [first, longest] = Self::WAITS;
        self.wait = (self.wait * 2).clamp(first, longest);
        self.last = Some((error, now + self.wait));
    }

    /// Returns the error to answer with, while it is too early for another try.
    pub(super) fn answer(&self, now: Instant) -> Option<SetupError> {
        let (error, until) = self.last.as_ref()?;
        (now < *until).then(|| error.clone())
    }
}

/// Why a message was not published, or may not have been.
#[derive(Debug)]
pub(super) enum Failure {
    /// No queue took it.
    Returned,
    /// A queue did not take it.
    Full,
    /// The connection or the channel is gone, or the answer cannot be distinguished from another
    /// one.
    Lost,
    /// The server closed the channel because of this message.
    Server(lapin::Error),
    /// The topic cannot be declared again.
    Setup(SetupError),
    /// The server takes payloads of at most this size.
    TooLarge(usize),
}

/// The callers' view of the task.
pub(super) struct Shared {
    pub topic: Topic,
    line: Mutex<Line>,
}

/// The last connection of the task.
#[derive(Debug)]
pub(super) struct Line {
    frame: usize,
    status: ConnectionStatus,
}

impl Line {
    pub(super) fn of(connection: &Connection) -> Self {
        let frame = usize::try_from(connection.configuration().frame_max()).unwrap_or(usize::MAX);
        Self { frame, status: connection.status().clone() }
    }
}

impl Shared {
    pub(super) fn new(topic: &Topic, connection: &Connection) -> Self {
        Self { topic: topic.clone(), line: Mutex::new(Line::of(connection)) }
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the largest frame in bytes.
    pub(super) fn frame(&self) -> usize {
        self.line().frame
    }

    /// Returns whether the server takes no messages now. The connection is asked: an event can come before
    /// there is a listener.
    pub(super) fn is_blocked(&self) -> bool {
        let status = self.line().status.clone();
        status.connected() && status.blocked()
    }

    /// Returns the error of a message.
    pub(super) fn error(
        &self,
        id: String,
        shard: u16,
        size: usize,
        limit: Duration,
        failure: Failure,
    ) -> PublishError {
        let exchange = || self.topic.name.clone();
        match failure {
            Failure::Returned => PublishError::Unrouted { exchange: exchange(), shard },
            Failure::Full => PublishError::Full { id },
            Failure::Lost => PublishError::Unconfirmed { id, limit },
            Failure::TooLarge(limit) => PublishError::TooLarge { id, size, limit },
            Failure::Setup(source) => PublishError::Setup { source },
            Failure::Server(source) => match code(&source) {
                Some(NOT_FOUND) => PublishError::NoExchange { exchange: exchange(), source },
                Some(ACCESS_REFUSED) => PublishError::Denied { exchange: exchange(), source },
                _ => PublishError::Refused { id, source },
            },
        }
    }
}
