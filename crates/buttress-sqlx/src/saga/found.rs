//! Rows of many sagas, for both databases: logs by saga, sagas that are taken over, and lists.

use std::collections::HashMap;

use buttress_durable::saga::{Summary, TakenOver};

#[cfg(feature = "postgres")]
use super::row::NOW;
use super::row::{head, line, name};
use super::{FoundLines, Head, Line, unreadable};
use crate::columns::Columns;

/// Logs by the numbers of their sagas, or why a log cannot be read.
pub(crate) type Logs = HashMap<i64, Result<Vec<Line>, String>>;

/// Collects logs. Each row is a line in the order of its log, with the number of its saga in column 5.
pub(crate) fn logs<R: Columns>(rows: &[R]) -> sqlx::Result<Logs> {
    let mut logs = Logs::new();
    for row in rows {
        let log = logs.entry(row.int(5)?).or_insert_with(|| Ok(Vec::new()));
        match (line(row), &mut *log) {
            (Ok(line), Ok(lines)) => lines.push(line),
            (Err(error), Ok(_)) => *log = Err(format!("cannot read an entry of the log: {error}")),
            (_, Err(_)) => {}
        }
    }
    Ok(logs)
}

/// Returns the lines of one log.
pub(crate) fn lines<R: Columns>(head: &Head, rows: &[R]) -> FoundLines {
    let lines = rows.iter().map(line).collect::<Result<Vec<Line>, _>>();
    lines.map_err(|error| unreadable(head.id, "log", error))
}

/// Sagas without an owner.
pub(crate) struct Abandoned {
    pub heads: Vec<Head>,
    /// Reports the sagas whose rows cannot be read.
    pub taken: TakenOver<Vec<u8>>,
    /// The number of the last saga.
    pub last: Option<i64>,
}

impl Abandoned {
    /// Reads the rows of sagas.
    pub(crate) fn read<R: Columns>(rows: &[R]) -> sqlx::Result<Self> {
        let mut found = Self { heads: Vec::new(), taken: TakenOver::new(), last: None };
        for row in rows {
            found.last = Some(row.int(0)?);
            match head(row) {
                Ok(head) => found.heads.push(head),
                Err(error) => {
                    let (id, name) = name(row);
                    let what = format!("{name}: its row cannot be read: {error}");
                    found.taken.corrupt.push((id, what));
                }
            }
        }
        Ok(found)
    }

    /// Returns the numbers of the sagas.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        self.heads.iter().map(|head| head.number).collect()
    }
}

/// Returns the numbers of the sagas, readable or not.
pub(crate) fn numbers<R: Columns>(rows: &[R]) -> sqlx::Result<Vec<i64>> {
    rows.iter().map(|row| row.int(0)).collect()
}

/// Returns when the store has read the rows, which have the time after the columns of a head.
#[cfg(feature = "postgres")]
pub(crate) fn now<R: Columns>(rows: &[R]) -> sqlx::Result<i64> {
    rows.first().map_or(Ok(0), |row| row.int(NOW))
}

/// Adds the sagas of `rows` to a list. Logs the damaged ones, which the list leaves out: `load`
/// returns the reason.
pub(crate) fn list<R: Columns>(rows: &[R], list: &mut Vec<Summary>) {
    for row in rows {
        match head(row).map_err(|error| error.to_string()).and_then(|head| head.summary()) {
            Ok(summary) => list.push(summary),
            Err(error) => {
                let (_, saga) = name(row);
                tracing::error!(saga, error, "a damaged saga is left out of a list");
            }
        }
    }
}

/// Adds the sagas of `heads` to `taken`. Returns the numbers of the readable ones, whose rows the caller changes.
/// The store has read the rows at `now`.
pub(crate) fn take(
    heads: Vec<Head>,
    mut logs: Logs,
    now: i64,
    taken: &mut TakenOver<Vec<u8>>,
) -> Vec<i64> {
    let mut numbers = Vec::with_capacity(heads.len());
    for head in heads {
        let (id, number) = (head.id, head.number);
        let lines = logs.remove(&number).unwrap_or_else(|| Ok(Vec::new()));
        match lines.and_then(|lines| head.taken(lines, now)) {
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
pub(crate) fn other_versions<R: Columns>(rows: &[R]) -> Vec<Summary> {
    let mut list = Vec::new();
    for row in rows {
        match head(row).map_err(|error| error.to_string()).and_then(|head| head.summary()) {
            Ok(summary) => list.push(summary),
            Err(error) => tracing::warn!(
                %error, "a damaged saga is left out of the sagas of other versions"
            ),
        }
    }
    list
}
