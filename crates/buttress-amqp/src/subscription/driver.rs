//! [`Driver`]: the work of a member while it receives: its connection, a channel per shard, and their deliveries.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use buttress::StoreError;
use buttress_durable::consume::{Batch, Received, Shard};
use futures_util::stream::Stream as _;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use super::state::Holding;
use super::{Subscription, Token};
use crate::declare;
use crate::error::SetupError;
use crate::message::{self, Read};

/// The state that `receive` works on.
pub(super) struct Driver {
    connection: Option<Connection>,
    /// Whether the queues are declared since the last trouble.
    is_declared: bool,
    flows: Vec<Flow>,
    /// The flow that hands out first.
    turn: usize,
    /// A channel that was lost and is not yet reported to the consumer.
    lost: Option<StoreError>,
    /// Whether an error is reported to the consumer, and its end is not.
    pub in_trouble: bool,
}

/// The messages of one shard.
struct Flow {
    shard: u16,
    open: Option<Open>,
    /// Messages that came, and are not handed out yet.
    arrived: VecDeque<Delivery>,
}

/// A channel that consumes one queue.
struct Open {
    channel: Channel,
    consumer: Consumer,
}

impl Drop for Open {
    fn drop(&mut self) {
        // The end of the client's consumer would be a cancellation: RabbitMQ would deliver later messages to another
        // member before it gets back those that this one has. The first poll sends the end of the channel instead.
        let mut closing = pin!(self.channel.close(REPLY_SUCCESS, "".into()));
        let _sent = closing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

impl Driver {
    pub(super) fn new(shards: u16, connection: Connection) -> Self {
        let flow = |shard| Flow { shard, open: None, arrived: VecDeque::new() };
        Self {
            connection: Some(connection),
            is_declared: true,
            flows: (0..shards).map(flow).collect(),
            turn: 0,
            lost: None,
            in_trouble: false,
        }
    }

    /// Closes the channels. RabbitMQ delivers the unsettled messages to another member.
    pub(super) async fn close(&mut self, of: &Subscription) -> Result<(), StoreError> {
        let mut closed = Ok(());
        for flow in &mut self.flows {
            if let Some(open) = &flow.open {
                let closing = open.channel.close(REPLY_SUCCESS, "".into());
                // A channel that is gone has returned its messages.
                let closing = of.rabbit.within("closing a channel", closing).await.map(drop);
                closed = closed.and(closing);
            }
            flow.lose(of);
        }
        if let Some(connection) = self.connection.take() {
            let closing = connection.close(REPLY_SUCCESS, "".into());
            closed =
                closed.and(of.rabbit.within("closing the connection", closing).await.map(drop));
        }
        closed.map_err(SetupError::into_store_error)
    }

    /// Connects, declares and consumes as far as that is needed.
    pub(super) async fn tend(&mut self, of: &Subscription) -> Result<(), StoreError> {
        if let Some(lost) = self.lost.take() {
            return Err(lost);
        }
        if !of.holding().is_wanted() {
            // The consumer has not said yet how much it takes.
            return Ok(());
        }
        self.reach(of).await.map_err(SetupError::into_store_error)
    }

    async fn reach(&mut self, of: &Subscription) -> Result<(), SetupError> {
        let last = self.connection.take().filter(|last| last.status().connected());
        let connection = match last {
            Some(connection) => connection,
            None => {
                self.is_declared = false;
                self.flows.iter_mut().for_each(|flow| flow.lose(of));
                of.rabbit.connect().await?
            }
        };
        let connection = self.connection.insert(connection);
        if !self.is_declared {
            declare::topic(&of.rabbit, connection, &of.topic).await?;
            declare::group(&of.rabbit, connection, &of.topic, &of.settings).await?;
            self.is_declared = true;
        }
        for flow in self.flows.iter_mut().filter(|flow| flow.open.is_none()) {
            let opened = flow.open(of, connection).await;
            self.is_declared &= opened.is_ok();
            opened?;
        }
        Ok(())
    }

    /// Waits for messages, a revocation, or the end of an outage. `None` asks to be tended.
    pub(super) async fn next(&mut self, of: &Subscription) -> Option<Batch<Token>> {
        let mut more = pin!(of.more.notified());
        poll_fn(|cx| {
            loop {
                if self.take_in(cx, of) {
                    return Poll::Ready(None);
                }
                if let Some(batch) = self.hand_out(of) {
                    return Poll::Ready(Some(batch));
                }
                if more.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if self.flows.iter().any(|flow| flow.open.is_none()) {
                    return Poll::Ready(None);
                }
                more.set(of.more.notified());
            }
        })
        .await
    }

    /// Takes in everything that has come. Returns `true` if a channel was lost.
    fn take_in(&mut self, cx: &mut Context<'_>, of: &Subscription) -> bool {
        for flow in &mut self.flows {
            if let Some(error) = flow.take_in(cx) {
                flow.lose(of);
                self.is_declared = false;
                self.lost = Some(error);
            }
        }
        self.lost.is_some()
    }

    /// Returns the messages that there is room for, one of each shard in turn.
    fn hand_out(&mut self, of: &Subscription) -> Option<Batch<Token>> {
        let (mut holding, shards) = (of.holding(), self.flows.len());
        let (mut messages, mut empty) = (Vec::new(), 0);
        while holding.room() > 0 && empty < shards {
            let flow = self.flows.get_mut(self.turn % shards)?;
            self.turn = (self.turn + 1) % shards;
            let may_come = of.settings.prefetch.is_some() || holding.has_room_for(flow.shard);
            let next = if may_come { flow.arrived.pop_front() } else { None };
            match next {
                None => empty += 1,
                Some(delivery) => {
                    empty = 0;
                    messages.push(received(&mut holding, flow.shard, delivery));
                }
            }
        }
        let revoked = holding.take_revoked();
        if messages.is_empty() && revoked.is_empty() && !self.in_trouble {
            return None;
        }
        self.in_trouble = false;
        let mut batch = Batch::new(messages);
        batch.revoked = revoked;
        Some(batch)
    }
}

impl Flow {
    async fn open(&mut self, of: &Subscription, connection: &Connection) -> Result<(), SetupError> {
        let queue = of.topic.queue(&of.settings.group, self.shard);
        let prefetch = of.settings.prefetch.unwrap_or_else(|| of.holding().prefetch());
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let name = queue.as_str().into();
            let consumer = channel.basic_consume(name, "".into(), options, arguments).await?;
            Ok(Open { channel, consumer })
        };
        let opened = of.rabbit.within("consuming", opening).await?;
        let doing = || format!("consume the queue `{queue}`");
        let opened = opened.map_err(|source| SetupError::Server { doing: doing(), source })?;
        let epoch = of.holding().opened(self.shard);
        of.set_channel(self.shard, Some((epoch, opened.channel.clone())));
        self.open = Some(opened);
        Ok(())
    }

    /// Forgets the channel and its messages.
    fn lose(&mut self, of: &Subscription) {
        if self.open.take().is_some() {
            self.arrived.clear();
            of.set_channel(self.shard, None);
            of.holding().lost(self.shard);
        }
    }

    /// Takes in the messages that have come. Returns why there will be no more.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Option<StoreError> {
        let consumer = &mut self.open.as_mut()?.consumer;
        loop {
            match Pin::new(&mut *consumer).poll_next(cx) {
                Poll::Ready(Some(Ok(delivery))) => self.arrived.push_back(delivery),
                Poll::Ready(Some(Err(error))) => {
                    let queue = consumer.queue();
                    let lost = format!("the channel of the queue `{queue}` was closed");
                    return Some(StoreError::transient(lost).with_source(error));
                }
                Poll::Ready(None) => {
                    let queue = consumer.queue();
                    let lost = format!("the server ended the delivery of the queue `{queue}`");
                    return Some(StoreError::transient(lost));
                }
                Poll::Pending => return None,
            }
        }
    }
}

fn received(holding: &mut Holding, shard: u16, delivery: Delivery) -> Received<Token> {
    let Read { id, mut content, redeliveries } = message::read(&delivery);
    content.payload = delivery.data;
    let (token, place) = holding.hand_out(shard, delivery.delivery_tag, id);
    let mut received = Received::of(token, Shard(u64::from(shard)), Arc::new(content));
    (received.place, received.redeliveries) = (place, Some(redeliveries));
    received
}
