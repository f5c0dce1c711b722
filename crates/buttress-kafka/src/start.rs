//! Where a new group starts.

use std::time::UNIX_EPOCH;

use buttress_durable::consume::Start;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::error::SetupError;
use crate::kafka::{ANSWER, Kafka, create};
use crate::subscribe::Subscribe;

/// Commits the start of a group that has no position yet, for every partition. So the group starts where it was
/// declared, and not where its first member happens to join.
pub(crate) fn begin(
    kafka: &Kafka,
    config: &ClientConfig,
    topic: &str,
    settings: &Subscribe,
) -> Result<(), SetupError> {
    let consumer: BaseConsumer = create(config)?;
    let failed =
        |error| kafka.failed(format!("find the position of the group `{}`", settings.group), error);
    let partitions = partitions(&consumer, topic).map_err(failed)?;
    if is_known(&consumer, &partitions).map_err(failed)? {
        return Ok(());
    }
    let positions = positions(&consumer, topic, partitions.clone(), settings.start);
    let positions = positions.map_err(failed)?;
    match consumer.commit(&positions, CommitMode::Sync) {
        Ok(()) => Ok(()),
        // Another member was faster. Brokers refuse the commit of a stranger to a group with members.
        Err(error) => match is_known(&consumer, &partitions) {
            Ok(true) => Ok(()),
            // A member without a position begins there.
            _ if is_refused(&error) && settings.start == Start::First => Ok(()),
            _ if is_refused(&error) => {
                let group = &settings.group;
                let doing = format!(
                    "set the start of the group `{group}` for the topic `{topic}`, because the group has members: \
                     take a group for each topic"
                );
                Err(SetupError::Refused { doing, source: error.into() })
            }
            _ => Err(failed(error)),
        },
    }
}

/// Returns `true` if the group has members.
fn is_refused(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress)
    )
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> KafkaResult<TopicPartitionList> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let found = metadata.topics().iter().filter(|found| found.name() == topic);
    let mut list = TopicPartitionList::new();
    for partition in found.flat_map(|found| found.partitions()) {
        list.add_partition(topic, partition.id());
    }
    Ok(list)
}

/// Returns `true` if the group has a position in any partition. The others begin with their first message then.
fn is_known(consumer: &BaseConsumer, partitions: &TopicPartitionList) -> KafkaResult<bool> {
    let committed = consumer.committed_offsets(partitions.clone(), ANSWER)?;
    let elements = committed.elements();
    for element in &elements {
        element.error()?;
    }
    Ok(elements.iter().any(|element| matches!(element.offset(), Offset::Offset(_))))
}

fn positions(
    consumer: &BaseConsumer,
    topic: &str,
    mut partitions: TopicPartitionList,
    start: Start,
) -> KafkaResult<TopicPartitionList> {
    if let Start::At(time) = start {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        partitions.set_all_offsets(Offset::Offset(since))?;
        partitions = consumer.offsets_for_times(partitions, ANSWER)?;
    }
    let mut list = TopicPartitionList::new();
    for element in partitions.elements() {
        element.error()?;
        let offset = match (start, element.offset()) {
            (Start::At(_), known @ Offset::Offset(_)) => known,
            (_, _) => {
                let (first, end) = consumer.fetch_watermarks(topic, element.partition(), ANSWER)?;
                Offset::Offset(if start == Start::First { first } else { end })
            }
        };
        list.add_partition_offset(topic, element.partition(), offset)?;
    }
    Ok(list)
}
