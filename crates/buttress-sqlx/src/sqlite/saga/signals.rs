//! Signals to sagas.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{NewSignal, SagaId, Signal, SignalAnswer, SignalId, SignalIn};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::read::find;
use crate::columns::Columns as _;
use crate::error::failed;
use crate::saga::signal::{self, SIGNAL};
use crate::sqlite::SqliteStore;
use crate::sqlite::begin::InTransaction;
use crate::sqlite::rows::bytes_of_id;

impl SqliteStore {
    pub(super) async fn send_signal(&self, signal: NewSignal<Vec<u8>>) -> Answer<SignalAnswer> {
        signal::prepare(&signal)?;
        self.bounded("sending a signal", async {
            let mut tx = self.begin().await?;
            let answer = record(&mut tx, self.now(), signal).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }

    pub(super) async fn signals_of(&self, saga: SagaId) -> Answer<Vec<Signal<Vec<u8>>>> {
        let what = "reading the signals of a saga";
        self.bounded(what, async {
            let sql = AssertSqlSafe(format!(
                "SELECT {SIGNAL} FROM buttress_saga_signal \
                 WHERE saga = (SELECT number FROM buttress_saga WHERE id = ?) ORDER BY position"
            ));
            let rows = sqlx::query(sql).bind(bytes_of_id(saga.get())).fetch_all(self.pool()).await;
            signal::read(saga, &rows.map_err(|error| failed(what, error))?)
        })
        .await
    }
}

/// `Tx` is a [`SqliteTransaction`](crate::SqliteTransaction), or a transaction of sqlx.
impl<Tx: InTransaction> SignalIn<Tx, Vec<u8>> for SqliteStore {
    async fn signal_in(&self, tx: &mut Tx, signal: NewSignal<Vec<u8>>) -> Answer<SignalAnswer> {
        signal::prepare(&signal)?;
        record(tx.connection(), self.now(), signal).await
    }
}

/// Writes a signal, unless its saga takes none. No other transaction writes until this one ends, so what it reads is
/// current.
async fn record(
    tx: &mut SqliteConnection,
    now: i64,
    signal: NewSignal<Vec<u8>>,
) -> Answer<SignalAnswer> {
    let sending = |error| failed("sending a signal", error);
    let found = find(tx, signal.saga).await.map_err(sending)?;
    let Some(head) = found.transpose()? else { return Ok(SignalAnswer::Unknown) };
    let known = sqlx::query("SELECT id FROM buttress_saga_signal WHERE saga = ? AND name = ?")
        .bind(head.number)
        .bind(&signal.name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(sending)?;
    let known = known.map(|row| row.id(0)).transpose().map_err(|error| {
        StoreError::corrupt(format!("saga {}: the id of a signal: {error}", signal.saga))
    })?;
    if let Some(answer) = signal::judge(&signal, &head, known.map(SignalId::new))? {
        return Ok(answer);
    }
    sqlx::query(
        "INSERT INTO buttress_saga_signal (saga, name, position, id, payload, recorded_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(head.number)
    .bind(&signal.name)
    .bind(head.signals)
    .bind(bytes_of_id(signal.id.get()))
    .bind(&signal.payload)
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(sending)?;
    sqlx::query(
        "UPDATE buttress_saga SET signals = signals + 1, due_at = min(due_at, ?2) WHERE number = ?1",
    )
    .bind(head.number)
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(sending)?;
    Ok(SignalAnswer::Delivered)
}
