//! [`Driver`]: the work of a member while it receives: leases, pull requests, and their messages.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use buttress::StoreError;
use buttress_durable::consume::{Batch, Place, Received, Shard};
use futures_util::future::join_all;

use crate::ack::Kind;
use crate::flow::{Arrived, Flow};
use crate::headers;
use crate::lease::{Changes, Leases};
use crate::nats::ANSWER;
use crate::redelivery;
use crate::reply::Reply;
use crate::state::Found;
use crate::subscription::{Subscription, Token};

/// How often the member checks the state of the connection and of the leases.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// The state that `receive` works on.
pub(crate) struct Driver {
    pub leases: Leases,
    flows: BTreeMap<u16, Flow>,
    /// Shards that were lost, and not yet reported to the consumer.
    revoked: Vec<Shard>,
    /// The flow that hands out first.
    turn: u16,
    /// Whether an error is reported to the consumer, and its end is not.
    pub in_trouble: bool,
    /// When the messages that wait here were kept.
    kept: Option<Instant>,
    /// When the stream was created.
    created: Option<i128>,
}

impl Driver {
    pub(crate) fn new(leases: Leases) -> Self {
        let (flows, revoked) = (BTreeMap::new(), Vec::new());
        Self { leases, flows, revoked, turn: 0, in_trouble: false, kept: None, created: None }
    }

    /// Stops pulling, and leaves the group.
    pub(crate) async fn close(&mut self) -> Result<(), StoreError> {
        for flow in self.flows.values_mut() {
            flow.leave().await;
        }
        self.flows.clear();
        self.leases.leave().await
    }

    /// Takes the steps that are due by time, leases and connection.
    pub(crate) async fn tend(&mut self, of: &Subscription) -> Result<(), StoreError> {
        let clock = &of.settings.clock;
        if self.leases.membership.has_lapsed(clock.now()) {
            self.leases.membership.lapse();
            self.follow(of);
        }
        if !of.nats.is_connected() {
            return Err(of.failed("no connection to the server"));
        }
        if self.leases.is_due(clock.now()) {
            self.renew(of).await?;
        }
        let (connects, now) = (of.nats.connects(), clock.now());
        for flow in self.flows.values_mut() {
            flow.check(connects, now);
        }
        self.recover(of).await?;
        self.keep(of).await?;
        self.pull(of).await
    }

    async fn renew(&mut self, of: &Subscription) -> Result<(), StoreError> {
        // A surplus shard is released after its pull request has ended and its messages are settled.
        let pulls = |shard| self.flows.get(&shard).is_some_and(Flow::is_open);
        let step = self.leases.step(|shard| pulls(shard) || of.holding().held(shard) > 0);
        let limit = ANSWER.min(of.settings.lease / 3);
        let stepped = of.settings.clock.within(limit, step).await;
        // Also after a failure: the step may have found before that shards are lost.
        self.follow(of);
        stepped.unwrap_or_else(|| Err(of.failed("renewing leases: no answer")))?;
        let membership = &self.leases.membership;
        let leaves = |flow: &&mut Flow| flow.is_open() && membership.is_surplus(flow.shard);
        let mut left = false;
        for flow in self.flows.values_mut().filter(leaves) {
            flow.leave().await;
            left = true;
        }
        if left {
            self.leases.hurry();
        }
        Ok(())
    }

    /// Begins the flows of shards that this member owns now, and ends the others.
    fn follow(&mut self, of: &Subscription) {
        let membership = &self.leases.membership;
        let known = self.flows.values().map(|flow| (flow.shard, flow.epoch)).collect();
        let Changes { gained, lost } = membership.changes(&known);
        // A shard may be both, under another epoch.
        for shard in lost {
            if self.flows.remove(&shard).is_some() {
                of.holding().lose(shard);
                self.revoked.push(Shard(u64::from(shard)));
            }
        }
        for shard in gained {
            let Some(epoch) = membership.owned().get(&shard).copied() else { continue };
            of.holding().gain(shard, epoch);
            self.flows.insert(shard, Flow::new(shard, epoch));
        }
    }

    /// Brings back the messages of earlier owners and connections.
    async fn recover(&mut self, of: &Subscription) -> Result<(), StoreError> {
        let (clock, connects) = (&of.settings.clock, of.nats.connects());
        let lease_ends = self.leases.membership.ends().unwrap_or_else(|| clock.now());
        let shard = |shard: u16| redelivery::Shard {
            nats: &of.nats,
            clock,
            stream: &of.topic.name,
            consumer: of.settings.consumer(shard),
            ack_wait: of.settings.ack_wait,
            // The leases are not renewed meanwhile.
            patience: of.settings.lease / 3,
            lease_ends,
        };
        for flow in self.flows.values_mut().filter(|flow| flow.is_open()) {
            if std::mem::take(&mut flow.is_idle) {
                shard(flow.shard).mend_now().await?;
            }
        }
        if !self.begins() {
            return Ok(());
        }
        let created = of.nats.created(&of.topic.name).await?;
        if self.created.replace(created).is_some_and(|known| known != created) {
            self.begin_again(of);
        }
        let _none_settles = of.settling.write().await;
        let membership = &self.leases.membership;
        let closed = self.flows.values_mut().filter(|flow| flow.begins(membership));
        let recovering = closed.map(async |flow| {
            if let Some(recovered) = shard(flow.shard).recover(&mut flow.rounds).await? {
                flow.open(recovered, connects, clock.now());
            }
            Ok(())
        });
        join_all(recovering).await.into_iter().collect()
    }

    /// Forgets the messages that the consumer holds: the stream was deleted and created again, and its sequences begin
    /// again. An acknowledgement of such a message would count for another message.
    fn begin_again(&mut self, of: &Subscription) {
        of.holding().begin_again();
        for flow in self.flows.values_mut() {
            flow.stop();
            self.revoked.push(Shard(u64::from(flow.shard)));
        }
    }

    /// Returns whether a flow has to begin.
    fn begins(&self) -> bool {
        let membership = &self.leases.membership;
        self.flows.values().any(|flow| flow.begins(membership))
    }

    /// Reports to the server that messages still wait here, e.g. during a pause.
    async fn keep(&mut self, of: &Subscription) -> Result<(), StoreError> {
        let now = of.settings.clock.now();
        if self.kept.is_some_and(|at| now.saturating_duration_since(at) < of.settings.ack_wait / 3)
        {
            return Ok(());
        }
        let life = of.holding().life();
        let waiting = self
            .flows
            .values()
            .flat_map(|flow| flow.arrived.iter().map(move |arrived| token(flow, life, arrived)));
        let waiting: Vec<Token> = waiting.collect();
        of.acknowledge(&waiting.iter().collect::<Vec<_>>(), Kind::Progress).await?;
        self.kept = Some(now);
        Ok(())
    }

    /// Asks for as many messages as there is room for.
    async fn pull(&mut self, of: &Subscription) -> Result<(), StoreError> {
        let (room, share) = {
            let holding = of.holding();
            (holding.room(), holding.share())
        };
        let pending: usize = self.flows.values().map(Flow::pending).sum();
        let mut left = room.saturating_sub(pending);
        let now = of.settings.clock.now();
        let lease_ends = self.leases.membership.ends().unwrap_or(now);
        for flow in self.flows.values_mut().filter(|flow| flow.is_open()) {
            let used = of.holding().held(flow.shard) + flow.pending();
            let mut wanted = share.saturating_sub(used).min(left);
            // A room that is smaller than the number of shards must not leave any of them out.
            if wanted == 0 && room > 0 && used < share && flow.pending() == 0 {
                wanted = 1;
            }
            // Few large requests are cheaper for the server than many small ones.
            if wanted == 0 || (flow.outstanding() > 0 && wanted < share.div_ceil(2)) {
                continue;
            }
            left = left.saturating_sub(wanted);
            flow.ask(wanted, now, lease_ends).await?;
        }
        Ok(())
    }

    /// Returns the messages that there is room for, a revocation, or the end of an outage.
    pub(crate) fn hand_out(&mut self, of: &Subscription) -> Option<Batch<Token>> {
        // A member that was stopped for long must not hand out messages that another member may have by now.
        if self.leases.membership.has_lapsed(of.settings.clock.now()) {
            return None;
        }
        let mut holding = of.holding();
        let (mut messages, mut is_replaced) = (Vec::new(), false);
        let (turn, life) = (self.turn, holding.life());
        let (before, from): (Vec<_>, Vec<_>) =
            self.flows.values_mut().partition(|flow| flow.shard < turn);
        for flow in from.into_iter().chain(before) {
            while holding.room() > 0 {
                let Some(arrived) = flow.arrived.pop_front() else { break };
                let Reply { sequence, time, .. } = arrived.about;
                match holding.find(flow.shard, sequence, time) {
                    Found::New => {}
                    Found::Held => continue,
                    Found::Replaced => {
                        is_replaced = true;
                        break;
                    }
                }
                holding.hand_out(flow.shard, sequence, time);
                self.turn = flow.shard + 1;
                messages.push(received(flow, life, arrived));
            }
        }
        drop(holding);
        if is_replaced {
            // The flows begin again with every message that is not settled, so nothing is handed out now.
            messages.clear();
            self.begin_again(of);
        }
        let revoked = std::mem::take(&mut self.revoked);
        if messages.is_empty() && revoked.is_empty() && !self.in_trouble {
            return None;
        }
        self.in_trouble = false;
        let mut batch = Batch::new(messages);
        batch.revoked = revoked;
        Some(batch)
    }

    /// Waits for messages, for room, or for the next look.
    pub(crate) async fn wait(&mut self, of: &Subscription) -> Result<(), StoreError> {
        if self.begins() {
            return Ok(());
        }
        let clock = &of.settings.clock;
        let (mut timer, mut more) = (Box::pin(clock.sleep(LOOK)), Box::pin(of.more.notified()));
        poll_fn(|cx| {
            let mut progressed = false;
            for flow in self.flows.values_mut() {
                match flow.poll(cx) {
                    Ok(came) => progressed |= came,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            progressed |= more.as_mut().poll(cx).is_ready();
            progressed |= timer.as_mut().poll(cx).is_ready();
            if progressed { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }
}

fn token(flow: &Flow, life: u64, arrived: &Arrived) -> Token {
    let Arrived { reply, about, .. } = arrived;
    let (shard, epoch, sequence) = (flow.shard, flow.epoch, about.sequence);
    Token { shard, epoch, life, sequence, reply: reply.clone() }
}

fn received(flow: &Flow, life: u64, arrived: Arrived) -> Received<Token> {
    let token = token(flow, life, &arrived);
    let Arrived { message, about, .. } = arrived;
    let mut content = headers::read(message.headers.as_ref(), &message.subject);
    content.payload = message.payload.into();
    let shard = Shard(u64::from(flow.shard));
    let mut received = Received::of(token, shard, Arc::new(content));
    received.place = Some(Place::Number(about.sequence));
    received.redeliveries =
        Some(u32::try_from(about.delivered.saturating_sub(1)).unwrap_or(u32::MAX));
    received
}
