//! Moves of sagas to another version of their definition: what both databases check.

use buttress::StoreError;
use buttress_durable::saga::{Moved, NewLog, Status};

use super::{FIRST, Head, Line, beginning, make_readable};
use crate::bounds;
use crate::epoch;
use crate::number::signed;

/// Refuses a log that does not fit, and replaces U+0000 in its texts.
pub(crate) fn prepare(log: &mut NewLog<Vec<u8>>) -> Result<(), StoreError> {
    let what = format!("saga {}", log.saga);
    beginning::check(&what, &log.beginning)?;
    bounds::check_size(&what, beginning::bytes(&log.beginning))?;
    for entry in &log.entries {
        bounds::check_size(&what, entry.payload().map_or(0, Vec::len))?;
    }
    make_readable(&mut log.entries);
    log.times.resize(log.entries.len(), None);
    Ok(())
}

/// What a move finds.
pub(crate) enum Found {
    /// The saga is as it was loaded. It moves, unless its worker lives and runs it.
    AsLoaded { runs: bool },
    /// The saga has the version and the epoch after the move. The caller compares the logs.
    After,
    /// The move is refused.
    Refused(Moved),
}

/// Compares the row of a saga with the row that was loaded.
pub(crate) fn find(log: &NewLog<Vec<u8>>, head: &Head) -> Result<Found, StoreError> {
    let corrupt = |what: String| StoreError::corrupt(what);
    let loaded = i64::try_from(log.epoch).ok();
    let next = loaded.and_then(epoch::next);
    if head.version == i64::from(log.to) && Some(head.epoch) == next {
        return Ok(Found::After);
    }
    let status = head.status().map_err(corrupt)?;
    if status.is_ended() {
        return Ok(Found::Refused(Moved::Gone));
    }
    let is_as_loaded = head.definition == log.definition
        && head.version == i64::from(log.from)
        && Some(head.epoch) == loaded
        && status == log.status
        && head.length == signed(log.length)
        && head.signals == signed(log.signals);
    if !is_as_loaded {
        return Ok(Found::Refused(Moved::Changed));
    }
    if next.is_none() {
        let why = format!(
            "saga {}: epoch {} is the largest, so the log cannot move",
            log.saga, log.epoch
        );
        return Err(corrupt(why));
    }
    Ok(Found::AsLoaded { runs: matches!(status, Status::Running | Status::Unwinding) })
}

/// Returns the answer to a repeated move, from all lines of the log.
pub(crate) fn repeated(log: &NewLog<Vec<u8>>, head: &Head, lines: &[Line]) -> Moved {
    let same = match lines.split_first() {
        Some((first, lines)) => {
            head.definition == log.definition
                && first.position == FIRST
                && first.payload.as_ref() == Some(&log.beginning.input)
                && first.note == beginning::note(&log.beginning)
                && lines.len() == log.entries.len()
                && lines.iter().zip(&log.entries).all(|(line, entry)| line.says(entry))
        }
        None => false,
    };
    if same { Moved::Moved } else { Moved::Changed }
}
