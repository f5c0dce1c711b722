//! Acknowledgements, with one confirmation per shard.
//!
//! The server handles the acknowledgements of a connection to one consumer in their order. So the confirmation of the
//! last one proves the earlier ones, unless the client reconnected in between.

use std::collections::BTreeMap;

use async_nats::{Message, Request, RequestError};
use buttress::StoreError;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::nats::ANSWER;
use crate::subscription::{Subscription, Token};

/// The report to the server about a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It is handled.
    Ack,
    /// It is being handled: the ack wait begins again.
    Progress,
}

impl Kind {
    fn payload(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Ack => b"+ACK",
            Self::Progress => b"+WPI",
        })
    }
}

impl Subscription {
    /// Reports messages to the server, and waits for its confirmation.
    pub(crate) async fn acknowledge(
        &self,
        tokens: &[&Token],
        kind: Kind,
    ) -> Result<(), StoreError> {
        if tokens.is_empty() {
            return Ok(());
        }
        let _no_take_over = self.settling.read().await;
        let (client, connects) = (&self.nats.client, self.nats.connects());
        if !self.nats.is_connected() {
            return Err(self.failed("cannot acknowledge without a connection"));
        }
        // In the order of the stream: the ack waits then end in this order too.
        let mut shards: BTreeMap<u16, BTreeMap<u64, &Token>> = BTreeMap::new();
        for token in tokens {
            shards.entry(token.shard).or_default().insert(token.sequence, token);
        }
        let confirmed = async {
            let confirmations = FuturesUnordered::new();
            for mut of_shard in shards.into_values() {
                let Some((_, last)) = of_shard.pop_last() else { continue };
                for token in of_shard.into_values() {
                    let publishing = client.publish(token.reply.clone(), kind.payload());
                    publishing.await.map_err(|error| {
                        self.failed("cannot send an acknowledgement").with_source(error)
                    })?;
                }
                let request = Request::new().payload(kind.payload()).timeout(Some(ANSWER));
                confirmations.push(client.send_request(last.reply.clone(), request));
            }
            confirmations
                .collect::<Vec<Result<Message, RequestError>>>()
                .await
                .into_iter()
                .try_for_each(|answer| {
                    answer.map(drop).map_err(|error| {
                        self.failed("an acknowledgement is not confirmed").with_source(error)
                    })
                })
        };
        let confirmed = self.settings.clock.within(ANSWER, confirmed).await;
        confirmed
            .unwrap_or_else(|| Err(self.failed("an acknowledgement is not confirmed in time")))?;
        if self.nats.connects() != connects {
            return Err(
                self.failed("the connection was cut before the acknowledgements were confirmed")
            );
        }
        Ok(())
    }
}
