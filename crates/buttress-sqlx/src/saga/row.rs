//! Rows of both databases as sagas, and as entries of a log.

use buttress_durable::saga::{SagaId, WorkerId};

use super::{Head, Line};
use crate::columns::Columns;

/// The columns of a [`Head`].
pub(crate) const HEAD: &str = "number, id, definition, version, codec, epoch, status, length, cancel, deadline, worker, due_at, \
     signals";

/// The column after those of [`HEAD`], in statements that select the time as well.
#[cfg(feature = "postgres")]
pub(crate) const NOW: usize = 13;

/// Reads the row of a saga, whose columns are [`HEAD`].
pub(crate) fn head<R: Columns>(row: &R) -> sqlx::Result<Head> {
    Ok(Head {
        number: row.int(0)?,
        id: SagaId::new(row.id(1)?),
        definition: row.text(2)?,
        version: row.int(3)?,
        codec: row.text(4)?,
        epoch: row.int(5)?,
        status: row.int(6)?,
        length: row.int(7)?,
        cancel: row.flag(8)?,
        deadline: row.int_or_null(9)?,
        worker: WorkerId::new(row.id(10)?),
        due_at: row.int_or_null(11)?,
        signals: row.int(12)?,
    })
}

/// Returns the id and a name of a saga for people, also for a damaged row. The id is 0 if it cannot
/// be read.
pub(crate) fn name<R: Columns>(row: &R) -> (SagaId, String) {
    match row.id(1) {
        Ok(id) => (SagaId::new(id), format!("saga {}", SagaId::new(id))),
        Err(_) => {
            let number = row.int(0).unwrap_or_default();
            (SagaId::new(0), format!("the saga in row {number} of buttress_saga"))
        }
    }
}

/// The columns of a [`Line`], with the number of its saga.
pub(crate) const LINE: &str = "position, kind, step, payload, note, saga, recorded_at";

/// Reads a row of a log, whose columns are [`LINE`].
pub(crate) fn line<R: Columns>(row: &R) -> sqlx::Result<Line> {
    Ok(Line {
        position: row.int(0)?,
        kind: row.int(1)?,
        step: row.int(2)?,
        payload: row.bytes_or_null(3)?,
        note: row.text_or_null(4)?,
        recorded_at: row.int_or_null(6)?,
    })
}
