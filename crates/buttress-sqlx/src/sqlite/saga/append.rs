//! The statements of the writer for the logs of sagas.

use std::time::Duration;

use buttress_durable::saga::{Appended, Entry, WorkerId};
use sqlx::sqlite::SqliteConnection;

use super::read::{find, some_lines};
use crate::number::signed;
use crate::queue::Job;
use crate::saga::{Add, Create, FIRST, LogOp, Wave, beginning, judge_append, judge_create};
use crate::sqlite::values::Cell::{self, Blob, Id, Int, Null, Text};
use crate::sqlite::values::Values;
use crate::time::{after, nanos, span};

/// Writes operations of one wave, in which each saga and each worker is unique.
///
/// One statement reads the rows of all sagas and returns one text, because each row that is
/// returned wakes this task. No other transaction writes until this one ends, so the rows are
/// current.
pub(in crate::sqlite) async fn write(
    tx: &mut SqliteConnection,
    now: i64,
    ops: Vec<&mut LogOp>,
) -> sqlx::Result<()> {
    if ops.is_empty() {
        return Ok(());
    }
    let Wave { creates, appends, renews } = Wave::new(ops);
    renew_workers(tx, now, renews).await?;
    if creates.is_empty() && appends.is_empty() {
        return Ok(());
    }
    let heads = read_heads(tx, &creates, &appends).await?;
    let (new, known) = heads.split_at(creates.len().min(heads.len()));
    insert(tx, &creates, new).await?;
    advance(tx, now, &appends, known).await?;
    add_lines(tx, now, (&creates, new), (&appends, known)).await?;
    for (job, head) in creates.into_iter().zip(new) {
        if head.is_new {
            job.settle(Ok(()));
            continue;
        }
        let head = find(tx, job.input.id).await?;
        let lines = some_lines(tx, head.as_ref(), FIRST, job.input.entries.len() + 2).await?;
        let verdict = judge_create(&job.input, head, lines);
        job.settle(verdict);
    }
    for (job, head) in appends.into_iter().zip(known) {
        if head.takes(job) {
            job.settle(Ok(Appended::new(head.cancel)));
            continue;
        }
        let head = find(tx, job.input.saga).await?;
        let from = signed(job.input.position);
        let lines = some_lines(tx, head.as_ref(), from, job.input.entries.len()).await?;
        let verdict = judge_append(&job.input, head, lines);
        job.settle(verdict);
    }
    Ok(())
}

/// The row of a saga before the write.
#[derive(Clone, Copy, Default)]
struct HeadRow {
    /// The number of the saga, known or new.
    number: i64,
    is_new: bool,
    epoch: i64,
    length: i64,
    status: i64,
    cancel: bool,
    signals: i64,
}

impl HeadRow {
    /// Whether the append is for the end of a log that its caller owns, and whose signals and cancel it knows.
    fn takes(&self, job: &Add) -> bool {
        let append = &job.input;
        !self.is_new
            && self.epoch == signed(append.epoch)
            && self.length == signed(append.position)
            && !matches!(self.status, 4 | 5)
            && append.seen_signals.is_none_or(|seen| self.signals <= signed(seen))
            && !append.overlooks_cancel(self.cancel)
    }
}

/// Reads the rows of the sagas of all operations, in their order.
async fn read_heads(
    tx: &mut SqliteConnection,
    creates: &[&mut Create],
    appends: &[&mut Add],
) -> sqlx::Result<Vec<HeadRow>> {
    let mut asked = Values::new(2);
    let ids = creates.iter().map(|job| job.input.id);
    for (place, id) in (0..).zip(ids.chain(appends.iter().map(|job| job.input.saga))) {
        asked.row([Int(place), Id(id.get())]);
    }
    let texts = asked
        .texts(
            tx,
            "WITH asked(place, id) AS (VALUES {values}) \
             SELECT group_concat(format('%d %d %d %d %d %d %d', place, number, epoch, length, \
                    status, cancel, signals)) FROM asked CROSS JOIN buttress_saga AS s ON s.id = asked.id \
             WHERE place IS NOT NULL",
        )
        .await?;
    let unknown = HeadRow { is_new: true, ..HeadRow::default() };
    let mut heads = vec![unknown; asked.rows()];
    for row in texts.iter().flat_map(|text| text.split(',')) {
        let mut numbers = row.split(' ').map(|number| number.parse::<i64>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let place = usize::try_from(next()).unwrap_or(usize::MAX);
        if let Some(head) = heads.get_mut(place) {
            *head = HeadRow {
                is_new: false,
                number: next(),
                epoch: next(),
                length: next(),
                status: next(),
                cancel: next() != 0,
                signals: next(),
            };
        }
    }
    if heads.iter().take(creates.len()).any(|head| head.is_new) {
        // After all used numbers, and after lines that no saga has any more. A number that leaves
        // no room after it is damaged.
        let last = "SELECT max(coalesce((SELECT max(number) FROM buttress_saga \
                        WHERE number < 4611686018427387904), 0), \
                    coalesce((SELECT max(saga) FROM buttress_saga_entry \
                        WHERE saga < 4611686018427387904), 0), \
                    coalesce((SELECT max(saga) FROM buttress_saga_signal \
                        WHERE saga < 4611686018427387904), 0))";
        let last: i64 = sqlx::query_scalar(last).fetch_one(tx).await?;
        let new = heads.iter_mut().take(creates.len()).filter(|head| head.is_new);
        for (head, number) in new.zip(last + 1..) {
            head.number = number;
        }
    }
    Ok(heads)
}

async fn insert(
    tx: &mut SqliteConnection,
    jobs: &[&mut Create],
    heads: &[HeadRow],
) -> sqlx::Result<()> {
    let mut rows = Values::new(8);
    for (job, head) in jobs.iter().zip(heads).filter(|(_, head)| head.is_new) {
        let saga = &job.input;
        rows.row([
            Int(head.number),
            Id(saga.id.get()),
            Text(&saga.definition),
            Int(saga.version.into()),
            Text(saga.codec),
            Id(saga.worker.get()),
            Int(signed(saga.entries.len() as u64)),
            saga.deadline.map_or(Null, |deadline| Int(nanos(deadline))),
        ]);
    }
    let sql = "WITH new(number, id, definition, version, codec, worker, length, deadline) \
               AS (VALUES {values}) \
               INSERT INTO buttress_saga (number, id, definition, version, codec, worker, epoch, \
               status, length, cancel, deadline) SELECT number, id, definition, version, codec, \
               worker, 1, 1, length, 0, deadline FROM new WHERE number IS NOT NULL";
    rows.execute(tx, sql).await.map(drop)
}

/// Checks the fence: the row that a take-over changes, under a condition on its epoch.
async fn advance(
    tx: &mut SqliteConnection,
    now: i64,
    jobs: &[&mut Add],
    heads: &[HeadRow],
) -> sqlx::Result<()> {
    let mut rows = Values::new(6);
    for (job, head) in jobs.iter().zip(heads).filter(|(job, head)| head.takes(job)) {
        let append = &job.input;
        rows.row([
            Int(head.number),
            Int(signed(append.epoch)),
            Int(signed(append.position)),
            Int(signed(append.entries.len() as u64)),
            Int(append.status.code().into()),
            if append.status.is_ended() { Int(now) } else { Null },
        ]);
    }
    let sql = "WITH new(number, epoch, position, entries, status, ended_at) AS (VALUES {values}) \
               UPDATE buttress_saga SET length = length + new.entries, status = new.status, \
               ended_at = new.ended_at FROM new WHERE buttress_saga.number = new.number \
               AND buttress_saga.epoch = new.epoch AND length = new.position";
    let changed = rows.execute(tx, sql).await?;
    if changed != rows.rows() as u64 {
        return Err(sqlx::Error::Protocol("a saga changed while its file was locked".to_owned()));
    }
    set_due(tx, now, jobs, heads).await
}

/// Writes when the sagas that wait are due.
async fn set_due(
    tx: &mut SqliteConnection,
    now: i64,
    jobs: &[&mut Add],
    heads: &[HeadRow],
) -> sqlx::Result<()> {
    let mut rows = Values::new(3);
    for (job, head) in jobs.iter().zip(heads).filter(|(job, head)| head.takes(job)) {
        if let Some(due_in) = job.input.due_in {
            let length = span(due_in);
            let forgets_cancel = head.cancel && !job.input.knows_cancel;
            let due_at = if forgets_cancel { now } else { now.saturating_add(length) };
            rows.row([Int(head.number), Int(due_at), Int(length)]);
        }
    }
    let sql = "WITH new(number, due_at, due_length) AS (VALUES {values}) \
               UPDATE buttress_saga SET due_at = new.due_at, due_length = new.due_length \
               FROM new WHERE buttress_saga.number = new.number";
    rows.execute(tx, sql).await.map(drop)
}

/// Writes the inputs and entries of all operations that passed.
async fn add_lines(
    tx: &mut SqliteConnection,
    now: i64,
    (creates, new): (&[&mut Create], &[HeadRow]),
    (appends, known): (&[&mut Add], &[HeadRow]),
) -> sqlx::Result<()> {
    let notes: Vec<_> = creates.iter().map(|job| beginning::note(&job.input.beginning)).collect();
    let mut lines = Values::new(6);
    for ((job, head), note) in
        creates.iter().zip(new).zip(&notes).filter(|((_, head), _)| head.is_new)
    {
        let (input, note) = (Blob(&job.input.beginning.input), note.as_deref().map_or(Null, Text));
        lines.row([Int(head.number), Int(FIRST), Int(0), Int(0), input, note]);
        entries(&mut lines, head.number, 0, &job.input.entries);
    }
    for (job, head) in appends.iter().zip(known).filter(|(job, head)| head.takes(job)) {
        entries(&mut lines, head.number, head.length, &job.input.entries);
    }
    let sql = "WITH new(saga, position, kind, step, payload, note) AS (VALUES {values}) \
               INSERT INTO buttress_saga_entry (saga, position, kind, step, payload, note, recorded_at) \
               SELECT *, ? FROM new WHERE saga IS NOT NULL";
    lines.execute_at(tx, sql, now).await.map(drop)
}

fn entries<'v>(lines: &mut Values<'v>, number: i64, position: i64, entries: &'v [Entry<Vec<u8>>]) {
    for (position, entry) in (position..).zip(entries) {
        lines.row(cells(number, position, entry));
    }
}

/// Returns the columns of an entry, without its time.
pub(super) fn cells(number: i64, position: i64, entry: &Entry<Vec<u8>>) -> [Cell<'_>; 6] {
    [
        Int(number),
        Int(position),
        Int(entry.kind().code().into()),
        Int(entry.step().into()),
        entry.payload().map_or(Null, |output| Blob(output)),
        entry.note().map_or(Null, Text),
    ]
}

async fn renew_workers(
    tx: &mut SqliteConnection,
    now: i64,
    jobs: Vec<&mut Job<(WorkerId, Duration), ()>>,
) -> sqlx::Result<()> {
    let mut rows = Values::new(3);
    for job in &jobs {
        let (worker, lease) = job.input;
        rows.row([Id(worker.get()), Int(after(now, lease)), Int(nanos(lease))]);
    }
    let sql = "WITH new(worker, until, length) AS (VALUES {values}) \
               INSERT OR REPLACE INTO buttress_saga_worker (worker, until, length) \
               SELECT * FROM new WHERE worker IS NOT NULL";
    rows.execute(tx, sql).await?;
    for job in jobs {
        job.settle(Ok(()));
    }
    Ok(())
}
