//! [`Subscription`]: one member of a group, as the source of a consumer.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use buttress::StoreError;

use super::pattern::Pattern;
use super::publish::Shared;
use super::state::{MemberId, Number, Queued};
use crate::consume::{Answer, Batch, Limits, Place, Received, Settle, Shard, Source};

/// The reaction of a full queue to a further message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Overflow {
    /// The publisher waits. The default: nothing is lost. A group without a member then stops its publishers once
    /// its queue is full.
    #[default]
    Block,
    /// The oldest message that waits is dropped, and counted.
    DropOldest,
    /// The publisher gets [`BusError::Full`](super::BusError::Full), and no group receives the message.
    Refuse,
}

/// The settings of a group's queue. The first subscription of a group creates it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Subscribe {
    pub(super) pattern: Pattern,
    pub(super) capacity: usize,
    pub(super) overflow: Overflow,
}

impl Subscribe {
    /// Creates the settings of a queue of 1024 messages whose publishers wait when it is full.
    pub const fn new(pattern: Pattern) -> Self {
        Self { pattern, capacity: 1024, overflow: Overflow::Block }
    }

    /// Sets how many messages may wait in the queue. Messages that members hold do not count. Default: 1024. At least
    /// 1.
    pub const fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Sets the reaction of a full queue to a message. Default: [`Overflow::Block`].
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }
}

/// One member of a group of the bus: the [`Source`] of a [`Consumer`](crate::consume::Consumer).
///
/// When it is dropped, the messages that it holds go to other members of the group. The group keeps its queue, also
/// without a member, until [`Bus::remove`](super::Bus::remove).
pub struct Subscription {
    pub(super) bus: Arc<Shared>,
    pub(super) group: Arc<str>,
    pub(super) member: MemberId,
}

impl Subscription {
    /// The error of a member whose group an operator has removed. A new group of the name is another one.
    fn removed(&self) -> StoreError {
        let group = &self.group;
        StoreError::invalid(format!("the group `{group}` of the bus was removed: subscribe again"))
    }

    fn received(&self, number: Number, queued: Queued) -> Received<Number> {
        let Queued { content, redeliveries, .. } = queued;
        let mut received = Received::of(number, Shard(0), content);
        received.place = Some(Place::Number(number));
        received.redeliveries = Some(redeliveries);
        received
    }
}

impl Source for Subscription {
    type Token = Number;

    fn name(&self) -> &str {
        "bus"
    }

    fn group(&self) -> &str {
        &self.group
    }

    /// The bus waits forever, holds any delay, and counts redeliveries.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn want(&self, room: usize) {
        let waker = self.bus.with(|groups| {
            let member = groups.groups.get_mut(&*self.group)?.members.get_mut(&self.member)?;
            member.room = room;
            member.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn receive(&self) -> Result<Batch<Number>, StoreError> {
        let taken = poll_fn(|cx| {
            let taken = self.bus.with(|groups| {
                let group = groups.groups.get_mut(&*self.group);
                let Some(group) = group.filter(|group| group.members.contains_key(&self.member))
                else {
                    return Poll::Ready(Err(self.removed()));
                };
                let taken = group.take(self.member);
                if taken.is_empty() {
                    if let Some(member) = group.members.get_mut(&self.member) {
                        member.waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok((taken, groups.waiters())))
            });
            taken.map_ok(|(taken, wakers)| {
                wakers.into_iter().for_each(std::task::Waker::wake);
                taken
            })
        })
        .await?;
        let messages = taken.into_iter().map(|(number, queued)| self.received(number, queued));
        Ok(Batch::new(messages.collect()))
    }

    async fn settle(&self, done: &[(Number, Settle)]) -> Result<Vec<Answer>, StoreError> {
        let (settled, wakers) = self.bus.with(|groups| {
            let Some(group) = groups.groups.get_mut(&*self.group) else {
                return (vec![(Answer::Late, None); done.len()], Vec::new());
            };
            let settled = done.iter().map(|(number, how)| group.settle(self.member, *number, *how));
            let settled = settled.collect();
            // A key may be free for another member.
            let mut wakers: Vec<_> = group.wakers().collect();
            wakers.extend(groups.waiters());
            (settled, wakers)
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
        Ok(settled.into_iter().map(|(answer, _handled)| answer).collect())
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.leave();
        Ok(())
    }
}

impl Subscription {
    fn leave(&self) {
        let wakers = self.bus.with(|groups| {
            let Some(group) = groups.groups.get_mut(&*self.group) else { return Vec::new() };
            group.leave(self.member);
            let mut wakers: Vec<_> = group.wakers().collect();
            wakers.extend(groups.waiters());
            wakers
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("group", &self.group)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
