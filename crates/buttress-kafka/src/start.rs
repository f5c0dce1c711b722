//! Where a new group starts.

use std::time::UNIX_EPOCH;

use buttress_durable::consume::Start;

use crate::client::{Code, Consumer, Error, Positions, Properties};
use crate::error::SetupError;
use crate::kafka::{ANSWER, Kafka, refused};
use crate::subscribe::Subscribe;

/// Commits the start of a group that has no position yet, for every partition. So the group starts where it was
/// declared, and not where its first member happens to join.
pub(crate) fn begin(
    kafka: &Kafka,
    properties: &Properties,
    topic: &str,
    settings: &Subscribe,
) -> Result<(), SetupError> {
    // It joins no group.
    let consumer = Consumer::new(properties, topic, || {}).map_err(refused)?;
    let failed =
        |error| kafka.failed(format!("find the position of the group `{}`", settings.group), error);
    let partitions = consumer.find(ANSWER).map_err(failed)?.partitions;
    if is_known(&consumer, &partitions).map_err(failed)? {
        return Ok(());
    }
    let positions = positions(&consumer, &partitions, settings.start).map_err(failed)?;
    match consumer.commit(&positions) {
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
fn is_refused(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress)
    )
}

/// Returns `true` if the group has a position in any partition. The others begin with their first message then.
fn is_known(consumer: &Consumer, partitions: &[i32]) -> Result<bool, Error> {
    let committed = consumer.committed(partitions, ANSWER)?;
    Ok(committed.iter().any(|(_, position)| position.is_some()))
}

fn positions(consumer: &Consumer, partitions: &[i32], start: Start) -> Result<Positions, Error> {
    let known = match start {
        Start::At(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let since = i64::try_from(since).unwrap_or(i64::MAX);
            consumer.offsets_at(partitions, since, ANSWER)?
        }
        _ => partitions.iter().map(|partition| (*partition, None)).collect(),
    };
    let positions = known.into_iter().map(|(partition, known)| {
        if let Some(offset) = known {
            return Ok((partition, offset));
        }
        let (first, end) = consumer.watermarks(partition, ANSWER)?;
        Ok((partition, if start == Start::First { first } else { end }))
    });
    positions.collect()
}
