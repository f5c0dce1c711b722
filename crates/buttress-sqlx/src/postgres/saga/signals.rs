//! Signals to sagas.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{NewSignal, SagaId, Signal, SignalAnswer, SignalId, SignalIn};
use sqlx::postgres::PgConnection;

use crate::columns::Columns as _;
use crate::error::during;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{Tx, query, uuid};
use crate::postgres::sql::Sql;
use crate::saga::signal::{self, SIGNAL};
use crate::saga::{HEAD, head, unreadable};

const SENDING: &str = "sending a signal";

impl PostgresStore {
    pub(super) async fn send_signal(&self, signal: NewSignal<Vec<u8>>) -> Answer<SignalAnswer> {
        signal::prepare(&signal)?;
        let what = during(SENDING);
        self.bounded(SENDING, async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            let answer = record(&mut tx, &self.inner.sql, signal).await?;
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            Ok(answer)
        })
        .await
    }

    pub(super) async fn signals_of(&self, saga: SagaId) -> Answer<Vec<Signal<Vec<u8>>>> {
        let what = "reading the signals of a saga";
        let sql = self.sql(&format!(
            "SELECT {SIGNAL} FROM {{s}}buttress_saga_signal \
             WHERE saga = (SELECT number FROM {{s}}buttress_saga WHERE id = $1) ORDER BY position"
        ));
        self.bounded(what, async {
            let mut loan = self.borrow().await?;
            let rows = query(sql).bind(uuid(saga.get())).fetch_all(&mut *loan).await;
            let rows = rows.map_err(during(what))?;
            loan.finish().await?;
            signal::read(saga, &rows)
        })
        .await
    }
}

/// The transaction locks the row of the saga. Writers of its log wait until the transaction ends.
impl<'a> SignalIn<Tx<'a>, Vec<u8>> for PostgresStore {
    async fn signal_in(&self, tx: &mut Tx<'a>, signal: NewSignal<Vec<u8>>) -> Answer<SignalAnswer> {
        signal::prepare(&signal)?;
        self.bounded(SENDING, record(tx, &self.inner.sql, signal)).await
    }
}

/// Writes a signal, unless its saga takes none. The lock on the row of the saga keeps other signals and writers of the
/// log out until the transaction ends. So the number of signals in the row says whether a writer has seen all.
async fn record(
    tx: &mut PgConnection,
    sql: &Sql,
    signal: NewSignal<Vec<u8>>,
) -> Answer<SignalAnswer> {
    let sending = during(SENDING);
    let saga = signal.saga;
    let lock = format!("SELECT {HEAD} FROM {{s}}buttress_saga WHERE id = $1 FOR UPDATE");
    let row = query(sql.text(&lock)).bind(uuid(saga.get())).fetch_optional(&mut *tx).await;
    let row = row.map_err(sending)?;
    let found = row.as_ref().map(head).transpose();
    let Some(head) = found.map_err(|error| unreadable(saga, "row", error))? else {
        return Ok(SignalAnswer::Unknown);
    };
    // A separate statement, after the lock: it sees the signals that were committed before.
    let known = "SELECT id FROM {s}buttress_saga_signal WHERE saga = $1 AND name = $2";
    let known = query(sql.text(known)).bind(head.number).bind(&signal.name);
    let known = known.fetch_optional(&mut *tx).await.map_err(sending)?;
    let known = known.map(|row| row.id(0)).transpose().map_err(|error| {
        StoreError::corrupt(format!("saga {saga}: the id of a signal: {error}"))
    })?;
    if let Some(answer) = signal::judge(&signal, &head, known.map(SignalId::new))? {
        return Ok(answer);
    }
    let insert = sql.text(
        "INSERT INTO {s}buttress_saga_signal (saga, name, position, id, payload, recorded_at) \
         VALUES ($2, $3, $4, $5, $6, {now})",
    );
    let insert = query(insert)
        .bind(sql.time())
        .bind(head.number)
        .bind(&signal.name)
        .bind(head.signals)
        .bind(uuid(signal.id.get()))
        .bind(&signal.payload);
    insert.execute(&mut *tx).await.map_err(sending)?;
    let count = sql.text(
        "UPDATE {s}buttress_saga SET signals = signals + 1, \
         due_at = CASE WHEN {waiting} THEN least(due_at, {now}) ELSE due_at END WHERE number = $2",
    );
    let count = query(count).bind(sql.time()).bind(head.number);
    count.execute(&mut *tx).await.map_err(sending)?;
    Ok(SignalAnswer::Delivered)
}
