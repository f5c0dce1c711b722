//! [`ClientEvents`]: the events that the client reports while it is polled, e.g. rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::log;

/// An event of the client.
#[derive(Debug)]
pub(super) enum ClientEvent {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Committed(Positions, KafkaResult<()>),
}

/// Partitions and their positions.
pub(super) type Positions = Vec<(i32, i64)>;

/// The queue of the events that the client reports while it is polled.
#[derive(Default)]
pub(super) struct ClientEvents {
    queue: Mutex<VecDeque<ClientEvent>>,
    /// Whether rebalances are answered immediately, because the member ends.
    pub(super) ends: AtomicBool,
}

impl ClientEvents {
    pub(super) fn push(&self, event: ClientEvent) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    pub(super) fn next(&self) -> Option<ClientEvent> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for ClientEvents {}

impl ConsumerContext for ClientEvents {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.ends.load(Ordering::Relaxed) {
            let answered = match assigned {
                true => consumer.incremental_assign(list),
                false => consumer.incremental_unassign(list),
            };
            log(answered);
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.push(match assigned {
            true => ClientEvent::Assigned(partitions),
            false => ClientEvent::Revoked(partitions),
        });
    }
}
