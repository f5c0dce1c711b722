//! [`Flow`]: the pull requests of one owned shard, and the messages that they brought.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{Message, StatusCode, Subject, Subscriber};
use buttress::StoreError;
use futures_util::Stream as _;

use crate::lease::Membership;
use crate::redelivery::{Recovered, Rounds, lasting, request};
use crate::reply::Reply;

/// The longest time that the server keeps a pull request that it cannot fill.
const EXPIRES: Duration = Duration::from_secs(30);
/// The server has lost a request whose end it has not reported after this time.
const OVERDUE: Duration = Duration::from_secs(2);

/// A message that came, and is not handed out yet.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub message: Message,
    pub reply: Subject,
    pub about: Reply,
}

/// The pull requests of one shard that this member owns.
#[derive(Debug)]
pub(crate) struct Flow {
    pub shard: u16,
    pub epoch: u64,
    /// The findings of the take-over so far.
    pub rounds: Rounds,
    /// Whether a request has ended early. The server may be as a take-over left it.
    pub is_idle: bool,
    /// `None` until the messages that the server delivered to an earlier owner or connection are here.
    pulling: Option<Pulling>,
    pub arrived: VecDeque<Arrived>,
    /// The places of the messages that a take-over brought. The server may deliver them once more.
    recovered: HashSet<u64>,
}

#[derive(Debug)]
struct Pulling {
    consumer: PullConsumer,
    subscriber: Subscriber,
    inbox: Subject,
    /// How many times the connection had been made when the pulling began.
    connects: u64,
    /// Messages that were asked for and have not come.
    outstanding: usize,
    /// When the last request is over.
    ends: Instant,
}

impl Flow {
    pub(crate) fn new(shard: u16, epoch: u64) -> Self {
        Self {
            shard,
            epoch,
            rounds: Rounds::default(),
            is_idle: false,
            pulling: None,
            arrived: VecDeque::new(),
            recovered: HashSet::new(),
        }
    }

    /// Begins to pull after the messages in `arrived`.
    pub(crate) fn open(&mut self, recovered: Recovered, connects: u64, now: Instant) {
        let Recovered { consumer, subscriber, inbox, messages } = recovered;
        self.recovered = messages.iter().map(|arrived| arrived.about.sequence).collect();
        (self.arrived, self.rounds) = (messages, Rounds::default());
        self.pulling =
            Some(Pulling { consumer, subscriber, inbox, connects, outstanding: 0, ends: now });
    }

    /// Stops pulling. The server delivers unsettled messages to the next owner.
    pub(crate) fn stop(&mut self) {
        self.pulling = None;
        self.arrived.clear();
    }

    /// Stops pulling, and notifies the server over the connection before anything that is sent later.
    pub(crate) async fn leave(&mut self) {
        if let Some(pulling) = &mut self.pulling {
            // Without a connection the server has forgotten the inbox already.
            let _disconnected = pulling.subscriber.unsubscribe().await;
        }
        self.stop();
    }

    /// Returns whether the flow has to begin.
    pub(crate) fn begins(&self, membership: &Membership) -> bool {
        !self.is_open() && !membership.is_surplus(self.shard)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pulling.is_some()
    }

    /// Stops if the connection is another one, or if the server has lost the pull request.
    pub(crate) fn check(&mut self, connects: u64, now: Instant) {
        let broken = self.pulling.as_ref().is_some_and(|pulling| {
            let overdue = now.saturating_duration_since(pulling.ends) > OVERDUE;
            pulling.connects != connects || (pulling.outstanding > 0 && overdue)
        });
        if broken {
            self.stop();
        }
    }

    /// Returns the messages that are in flight or wait to be handed out.
    pub(crate) fn pending(&self) -> usize {
        self.arrived.len() + self.outstanding()
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.pulling.as_ref().map_or(0, |pulling| pulling.outstanding)
    }

    /// Asks for `count` further messages. The request ends before `lease_ends`, so that the server delivers nothing to
    /// a member that was stopped, after another one has taken over.
    pub(crate) async fn ask(
        &mut self,
        count: usize,
        now: Instant,
        lease_ends: Instant,
    ) -> Result<(), StoreError> {
        let Some(pulling) = &mut self.pulling else { return Ok(()) };
        let Some(expires) = lasting(EXPIRES, now, lease_ends) else { return Ok(()) };
        pulling.outstanding += count;
        pulling.ends = pulling.ends.max(now + expires);
        request(&pulling.consumer, &pulling.inbox, count, expires).await
    }

    /// Takes in everything that has come. Returns whether anything has.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<bool, StoreError> {
        let mut progressed = false;
        while let Some(pulling) = &mut self.pulling {
            let Poll::Ready(next) = Pin::new(&mut pulling.subscriber).poll_next(cx) else { break };
            progressed = true;
            match next {
                Some(message) => match heard(message) {
                    Heard::Message(arrived) => {
                        pulling.outstanding = pulling.outstanding.saturating_sub(1);
                        if !self.recovered.contains(&arrived.about.sequence) {
                            self.arrived.push_back(*arrived);
                        }
                    }
                    Heard::Beat => {}
                    Heard::Ended(left) => {
                        self.is_idle = true;
                        pulling.outstanding =
                            left.map_or(0, |left| pulling.outstanding.saturating_sub(left));
                    }
                    Heard::Lost => self.stop(),
                    Heard::Deleted => {
                        self.stop();
                        let why = format!(
                            "the consumer of shard {} was deleted from the server",
                            self.shard
                        );
                        return Err(StoreError::misconfigured(why));
                    }
                },
                // The client has ended.
                None => self.stop(),
            }
        }
        Ok(progressed)
    }
}

/// The meaning of a message to an inbox.
pub(crate) enum Heard {
    Message(Box<Arrived>),
    /// The server still has the request.
    Beat,
    /// A request has ended. The number of its messages that did not come, if the server has named it.
    Ended(Option<usize>),
    /// The server has lost the request, or cannot serve it now.
    Lost,
    /// There is no consumer any more.
    Deleted,
}

pub(crate) fn heard(message: Message) -> Heard {
    // A status comes without such a subject. A message of another publisher can begin like a status.
    if let Some((reply, about)) =
        message.reply.clone().and_then(|reply| Reply::parse(&reply).map(|about| (reply, about)))
    {
        return Heard::Message(Box::new(Arrived { message, reply, about }));
    }
    let status = message.status.unwrap_or(StatusCode::OK);
    if status == StatusCode::OK {
        return Heard::Beat;
    }
    let left = || {
        let headers = message.headers.as_ref()?;
        headers.get("Nats-Pending-Messages")?.as_str().parse().ok()
    };
    if status == StatusCode::IDLE_HEARTBEAT {
        return Heard::Beat;
    }
    if status == StatusCode::TIMEOUT || status == StatusCode::NOT_FOUND {
        return Heard::Ended(left());
    }
    let description = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
    if description.contains("consumer deleted") { Heard::Deleted } else { Heard::Lost }
}
