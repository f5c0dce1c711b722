//! The statements of the writer of logs.

use std::collections::HashMap;

use buttress_durable::saga::{Appended, Beginning, Entry, SagaId};
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

use super::read::{find, some_lines};
use crate::columns::Columns as _;
use crate::number::signed;
use crate::postgres::rows::{query, uuid};
use crate::postgres::sql::Sql;
use crate::postgres::writer::Together;
use crate::saga::{Add, Create, FIRST, LogOp, Renew, Wave, beginning, judge_append, judge_create};
use crate::time::{nanos, span};

impl Together for LogOp {
    fn kind(&self) -> u8 {
        match self {
            Self::Renew(_) => 0,
            Self::Create(_) | Self::Append(_) => 1,
        }
    }

    async fn write(
        connection: &mut PgConnection,
        sql: &Sql,
        ops: Vec<&mut Self>,
    ) -> sqlx::Result<()> {
        let Wave { mut creates, mut appends, renews } = Wave::new(ops);
        renew_workers(connection, sql, renews).await?;
        write_logs(connection, sql, &mut creates, &mut appends).await?;
        for job in creates.iter_mut().filter(|job| !job.is_settled()) {
            let head = find(connection, sql, job.input.id).await?;
            let count = job.input.entries.len() + 2;
            let lines = some_lines(connection, sql, head.as_ref(), FIRST, count).await?;
            let verdict = judge_create(&job.input, head, lines);
            job.settle(verdict);
        }
        for job in appends.iter_mut().filter(|job| !job.is_settled()) {
            let head = find(connection, sql, job.input.saga).await?;
            let (from, count) = (signed(job.input.position), job.input.entries.len());
            let lines = some_lines(connection, sql, head.as_ref(), from, count).await?;
            let verdict = judge_append(&job.input, head, lines);
            job.settle(verdict);
        }
        Ok(())
    }
}

async fn renew_workers(
    tx: &mut PgConnection,
    sql: &Sql,
    jobs: Vec<&mut Renew>,
) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let workers: Vec<Uuid> = jobs.iter().map(|job| uuid(job.input.0.get())).collect();
    let leases: Vec<i64> = jobs.iter().map(|job| span(job.input.1)).collect();
    // In the order of the workers, so that two of these statements cannot wait for each other.
    let text = sql.text(
        "INSERT INTO {s}buttress_saga_worker (worker, until, length) \
         SELECT worker, {now} + lease, lease FROM unnest($2::uuid[], $3::int8[]) AS new(worker, lease) \
         ORDER BY worker ON CONFLICT (worker) DO UPDATE \
         SET until = excluded.until, length = excluded.length",
    );
    let query = query(text).bind(sql.time()).bind(workers).bind(leases);
    query.execute(tx).await?;
    for job in jobs {
        job.settle(Ok(()));
    }
    Ok(())
}

/// The entries of a batch, as one vector per column.
#[derive(Default)]
struct Columns {
    saga: Vec<Uuid>,
    position: Vec<i64>,
    kind: Vec<i64>,
    step: Vec<i64>,
    payload: Vec<Option<Vec<u8>>>,
    note: Vec<Option<String>>,
}

impl Columns {
    fn first(&mut self, saga: SagaId, beginning: &Beginning<Vec<u8>>) {
        self.saga.push(uuid(saga.get()));
        self.position.push(FIRST);
        self.kind.push(0);
        self.step.push(0);
        self.payload.push(Some(beginning.input.clone()));
        self.note.push(beginning::note(beginning));
    }

    fn entries(&mut self, saga: SagaId, position: i64, entries: &[Entry<Vec<u8>>]) {
        for (position, entry) in (position..).zip(entries) {
            self.saga.push(uuid(saga.get()));
            self.position.push(position);
            self.kind.push(entry.kind().code().into());
            self.step.push(entry.step().into());
            self.payload.push(entry.payload().cloned());
            self.note.push(entry.note().map(str::to_owned));
        }
    }
}

/// Creations and appends in one statement, which is the transaction. The fence: the statement locks
/// the rows that a take-over changes, and changes them only under the owner's epoch. It locks them
/// in the order of their numbers, so that two of these statements cannot wait for each other.
/// Entries of a saga that did not pass the fence match no saga. Status 4 is `Completed`. As a separate query, the
/// time is computed once per statement, and not per row.
const WRITE: &str = "\
    WITH created AS ( \
        INSERT INTO {s}buttress_saga (id, definition, version, codec, worker, epoch, status, \
            length, cancel, deadline) \
        SELECT id, definition, version, codec, worker, 1, 1, length, false, deadline \
        FROM unnest($2::uuid[], $3::text[], $4::int8[], $5::text[], $6::uuid[], $7::int8[], \
            $8::int8[]) AS new(id, definition, version, codec, worker, length, deadline) \
        ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id, number), \
    locked AS ( \
        SELECT s.number, new.epoch, new.position, new.entries, new.status, new.due_in, \
            new.seen, new.knows \
        FROM unnest($9::uuid[], $10::int8[], $11::int8[], $12::int8[], $13::int8[], $20::int8[], \
            $21::int8[], $22::bool[]) \
            AS new(id, epoch, position, entries, status, due_in, seen, knows) \
        JOIN {s}buttress_saga AS s ON s.id = new.id ORDER BY s.number FOR UPDATE OF s), \
    moved AS ( \
        UPDATE {s}buttress_saga AS s SET length = s.length + l.entries, status = l.status, \
            ended_at = CASE WHEN l.status IN {ended} THEN (SELECT {now}) END, \
            due_at = CASE WHEN l.due_in IS NULL THEN NULL \
                WHEN s.cancel AND NOT l.knows THEN (SELECT {now}) ELSE (SELECT {now}) + l.due_in END, \
            due_length = l.due_in \
        FROM locked AS l WHERE s.number = l.number AND s.epoch = l.epoch \
            AND s.length = l.position AND s.status NOT IN {ended} \
            AND (l.seen IS NULL OR s.signals <= l.seen) \
            AND (l.knows OR NOT s.cancel OR l.status <> 4) \
        RETURNING s.id, s.number, s.cancel), \
    passed AS (SELECT id, number, false AS cancel FROM created \
        UNION ALL SELECT id, number, cancel FROM moved), \
    written AS ( \
        INSERT INTO {s}buttress_saga_entry \
            (saga, position, kind, step, payload, note, recorded_at) \
        SELECT p.number, e.position, e.kind, e.step, e.payload, e.note, (SELECT {now}) \
        FROM unnest($14::uuid[], $15::int8[], $16::int8[], $17::int8[], $18::bytea[], \
            $19::text[]) AS e(id, position, kind, step, payload, note) JOIN passed AS p USING (id)) \
    SELECT id, cancel FROM passed";

pub(super) async fn write_logs(
    connection: &mut PgConnection,
    sql: &Sql,
    creates: &mut [&mut Create],
    appends: &mut [&mut Add],
) -> sqlx::Result<()> {
    if creates.is_empty() && appends.is_empty() {
        return Ok(());
    }
    let mut lines = Columns::default();
    for job in creates.iter() {
        lines.first(job.input.id, &job.input.beginning);
        lines.entries(job.input.id, 0, &job.input.entries);
    }
    for job in appends.iter() {
        let append = &job.input;
        lines.entries(append.saga, signed(append.position), &append.entries);
    }
    let new = |column: fn(&Create) -> i64| -> Vec<i64> {
        creates.iter().map(|job| column(job)).collect()
    };
    let add =
        |column: fn(&Add) -> i64| -> Vec<i64> { appends.iter().map(|job| column(job)).collect() };
    let ids = |id: fn(&Create) -> u128| -> Vec<Uuid> {
        creates.iter().map(|job| uuid(id(job))).collect()
    };
    let text = sql.text(WRITE);
    let rows = query(text)
        .bind(sql.time())
        .bind(ids(|job| job.input.id.get()))
        .bind(creates.iter().map(|job| job.input.definition.clone()).collect::<Vec<_>>())
        .bind(new(|job| job.input.version.into()))
        .bind(creates.iter().map(|job| job.input.codec).collect::<Vec<_>>())
        .bind(ids(|job| job.input.worker.get()))
        .bind(new(|job| signed(job.input.entries.len() as u64)))
        .bind(creates.iter().map(|job| job.input.deadline.map(nanos)).collect::<Vec<_>>())
        .bind(appends.iter().map(|job| uuid(job.input.saga.get())).collect::<Vec<_>>())
        .bind(add(|job| signed(job.input.epoch)))
        .bind(add(|job| signed(job.input.position)))
        .bind(add(|job| signed(job.input.entries.len() as u64)))
        .bind(add(|job| job.input.status.code().into()))
        .bind(lines.saga)
        .bind(lines.position)
        .bind(lines.kind)
        .bind(lines.step)
        .bind(lines.payload)
        .bind(lines.note)
        .bind(appends.iter().map(|job| job.input.due_in.map(span)).collect::<Vec<_>>())
        .bind(appends.iter().map(|job| job.input.seen_signals.map(signed)).collect::<Vec<_>>())
        .bind(appends.iter().map(|job| job.input.knows_cancel).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut passed: HashMap<SagaId, bool> = HashMap::with_capacity(rows.len());
    for row in &rows {
        passed.insert(SagaId::new(row.id(0)?), row.flag(1)?);
    }
    for job in creates.iter_mut().filter(|job| passed.contains_key(&job.input.id)) {
        job.settle(Ok(()));
    }
    for job in appends.iter_mut() {
        if let Some(cancel) = passed.get(&job.input.saga) {
            job.settle(Ok(Appended::new(*cancel)));
        }
    }
    Ok(())
}
