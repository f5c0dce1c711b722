//! [`Bus`]: publishes messages to the groups of one process.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use buttress::InvalidConfig;
use tokio::sync::watch;
use tower::Service;

use super::error::BusError;
use super::state::{Group, Groups, Member, Pushed};
use super::stats::GroupStats;
use super::subscribe::{Subscribe, Subscription};
use crate::check::check_at_least;
use crate::consume::Content;
use crate::ended::polled_after_completion;
use crate::outbox::Message;

/// A bus that delivers messages to the groups of one process. Cheap to clone: clones are one bus.
///
/// It is the publisher of a relay, as a [`Service`] of [`outbox::Message`](crate::outbox::Message), and its
/// subscriptions are the sources of consumers. The [module](super) page has an example.
#[derive(Clone, Default)]
pub struct Bus {
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared(Mutex<Groups>);

impl Shared {
    /// Runs `f` under the lock. `f` wakes no task, and returns the messages that it takes out of the queues: the drop
    /// of a handled message wakes a task that waits for it.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Groups) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place of a future that waits for room or for the end. It is released when the future is dropped.
struct Waiting {
    bus: Arc<Shared>,
    number: Option<u64>,
}

impl Waiting {
    fn new(bus: &Arc<Shared>) -> Self {
        Self { bus: Arc::clone(bus), number: None }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // The drop of a waker can run code of the task, so it happens outside of the lock.
            drop(self.bus.with(|groups| groups.forget(number)));
        }
    }
}

type Ticket = Option<Arc<watch::Sender<()>>>;

impl Bus {
    /// Creates a bus without groups.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member to `group`. Each message goes to one member of every group whose pattern matches its topic.
    ///
    /// The first member creates the queue of the group. A group receives the messages that are published from then
    /// on.
    ///
    /// # Errors
    /// Returns [`InvalidConfig`] if the capacity is 0, or if the group exists with another pattern, capacity or
    /// overflow.
    pub fn subscribe(
        &self,
        group: &str,
        settings: Subscribe,
    ) -> Result<Subscription, InvalidConfig> {
        check_at_least("capacity", settings.capacity, 1)?;
        let member = self.shared.with(|groups| {
            let Subscribe { pattern, capacity, overflow } = settings.clone();
            let known = groups.groups.entry(group.to_owned());
            let known = known.or_insert_with(|| Group::new(pattern, capacity, overflow));
            let there = |field, asked: String, known: String| {
                let bound = format!("{known}, as the first member of group `{group}` has chosen");
                if asked == known { Ok(()) } else { Err(InvalidConfig::new(field, asked, bound)) }
            };
            there("pattern", settings.pattern.to_string(), known.pattern.to_string())?;
            there("capacity", settings.capacity.to_string(), known.capacity.to_string())?;
            let [asked, chosen] = [settings.overflow, known.overflow];
            there("overflow", format!("{asked:?}"), format!("{chosen:?}"))?;
            groups.last_member += 1;
            known.members.insert(groups.last_member, Member::default());
            Ok(groups.last_member)
        })?;
        Ok(Subscription { bus: self.shared.clone(), group: group.into(), member })
    }

    /// Removes a group with all messages that wait in its queue. Returns how many messages it had. The consumers of its
    /// members then get an error: they have to subscribe again.
    pub fn remove(&self, group: &str) -> usize {
        let (removed, wakers) = self.shared.with(|groups| {
            let before = groups.left();
            let mut removed = groups.groups.remove(group);
            let left = before - groups.left();
            let mut wakers = groups.waiters();
            wakers.extend(removed.iter_mut().flat_map(Group::wakers));
            // Its tickets end waits of other tasks, so it is dropped outside of the lock.
            ((left, removed), wakers)
        });
        wakers.into_iter().for_each(Waker::wake);
        removed.0
    }

    /// Publishes `message`: the future ends when the message is in the queue of every group whose pattern matches
    /// the topic. A message that no group takes is not an error.
    ///
    /// # Errors
    /// Returns [`BusError`] if a queue refuses the message or the bus is shut down. No group has received it then.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no group has received the message.
    pub fn publish(&self, message: Message) -> Publish {
        Publish {
            waiting: Waiting::new(&self.shared),
            content: Some(Arc::new(message.into())),
            ticket: None,
        }
    }

    /// Publishes `message`, and waits until every group has handled it, or has dropped it. Use it in tests.
    ///
    /// # Errors
    /// Returns the errors of [`publish`](Self::publish).
    pub async fn publish_all_handled(&self, message: Message) -> Result<(), BusError> {
        let (ticket, mut handled) = watch::channel(());
        let (waiting, content) = (Waiting::new(&self.shared), Some(Arc::new(message.into())));
        Publish { waiting, content, ticket: Some(Arc::new(ticket)) }.await?;
        while handled.changed().await.is_ok() {}
        Ok(())
    }

    /// Returns how many messages the queue of `group` has dropped because it was full.
    #[must_use]
    pub fn dropped(&self, group: &str) -> u64 {
        self.shared.with(|groups| groups.groups.get(group).map_or(0, |group| group.dropped))
    }

    /// Returns the numbers of all groups, by their names.
    #[must_use]
    pub fn stats(&self) -> Vec<GroupStats> {
        let of = |(name, group): (&String, &Group)| group.stats(name);
        self.shared.with(|groups| groups.groups.iter().map(of).collect())
    }

    /// Takes no further message, and waits until every group with a member has handled its messages. Returns how many
    /// messages are left in groups without a member.
    pub async fn shut_down(&self) -> usize {
        let waiting = self.shared.with(|groups| {
            groups.closed = true;
            groups.waiters()
        });
        waiting.into_iter().for_each(Waker::wake);
        let mut place = Waiting::new(&self.shared);
        poll_fn(|cx| {
            self.shared.with(|groups| {
                if groups.is_drained() {
                    return Poll::Ready(groups.left());
                }
                place.number = Some(groups.wait(place.number, cx.waker()));
                Poll::Pending
            })
        })
        .await
    }
}

impl Service<Message> for Bus {
    type Response = ();
    type Error = BusError;
    type Future = Publish;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BusError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Publish {
        self.publish(message)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> =
            self.shared.with(|groups| groups.groups.keys().cloned().collect());
        f.debug_struct("Bus").field("groups", &groups).finish_non_exhaustive()
    }
}

/// A message on its way into the queues of a bus. Made by [`Bus::publish`].
#[must_use = "futures do nothing unless polled"]
pub struct Publish {
    waiting: Waiting,
    /// `None` once it is published.
    content: Option<Arc<Content>>,
    ticket: Ticket,
}

impl Future for Publish {
    type Output = Result<(), BusError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { waiting, content: kept, ticket } = &mut *self;
        let Some(content) = kept.take() else { polled_after_completion("bus::Publish") };
        let Waiting { bus, number } = waiting;
        let pushed = bus.with(|groups| {
            let pushed = groups.push(content, ticket.as_ref());
            if matches!(pushed, Ok(Pushed::Wait(_))) {
                *number = Some(groups.wait(*number, cx.waker()));
            }
            pushed
        });
        match pushed {
            Ok(Pushed::Wait(content)) => {
                *kept = Some(content);
                Poll::Pending
            }
            Ok(Pushed::Taken(wakers, _dropped)) => {
                *ticket = None;
                wakers.into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("published", &self.content.is_none())
            .finish_non_exhaustive()
    }
}
