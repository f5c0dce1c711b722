//! Rows of many sagas, for both databases: logs by saga, sagas that are taken over, and lists.

use std::collections::HashMap;
use std::future::Future;

use buttress::StoreError;
use buttress_durable::saga::{Summary, TakenOver};

use super::{Head, Line};

/// Logs by the numbers of their sagas, or why a log cannot be read.
pub(crate) type Logs = HashMap<i64, Result<Vec<Line>, String>>;

/// Collects the lines of logs. Each line comes with the number of its saga, in the order of the log.
pub(crate) fn logs(
    lines: impl IntoIterator<Item = Result<(i64, Result<Line, sqlx::Error>), sqlx::Error>>,
) -> Result<Logs, sqlx::Error> {
    let mut logs = Logs::new();
    for found in lines {
        let (saga, line) = found?;
        let log = logs.entry(saga).or_insert_with(|| Ok(Vec::new()));
        match (line, &mut *log) {
            (Ok(line), Ok(lines)) => lines.push(line),
            (Err(error), Ok(_)) => *log = Err(format!("an entry of a log: {error}")),
            (_, Err(_)) => {}
        }
    }
    Ok(logs)
}

/// Adds the sagas of `heads` to `taken`. Returns the numbers of the readable ones, whose rows the caller changes.
pub(crate) fn take(heads: Vec<Head>, mut logs: Logs, taken: &mut TakenOver<Vec<u8>>) -> Vec<i64> {
    let mut numbers = Vec::with_capacity(heads.len());
    for head in heads {
        let (id, number) = (head.id, head.number);
        let lines = logs.remove(&number).unwrap_or_else(|| Ok(Vec::new()));
        match lines.and_then(|lines| head.taken(lines)) {
            Ok(record) => {
                numbers.push(number);
                taken.sagas.push(record);
            }
            Err(what) => taken.corrupt.push((id, what)),
        }
    }
    numbers
}

/// Lists sagas of other versions. Logs the damaged ones, which the list leaves out.
pub(crate) fn other_versions(
    heads: impl IntoIterator<Item = Result<Head, sqlx::Error>>,
) -> Vec<Summary> {
    let mut list = Vec::new();
    for head in heads {
        match head.map_err(|error| error.to_string()).and_then(|head| head.summary()) {
            Ok(summary) => list.push(summary),
            Err(error) => tracing::warn!(
                %error, "a damaged saga is left out of the sagas of other versions"
            ),
        }
    }
    list
}

/// Removes up to `limit` rows, at most `batch` per call of `purge`, until a call removes less than a batch.
pub(crate) async fn in_batches<F>(
    limit: usize,
    batch: usize,
    purge: impl Fn(usize) -> F,
) -> Result<usize, StoreError>
where
    F: Future<Output = Result<usize, StoreError>>,
{
    let mut purged = 0;
    loop {
        let some = (limit - purged).min(batch);
        let done = purge(some).await?;
        purged += done;
        if done < some || purged >= limit {
            return Ok(purged);
        }
    }
}
