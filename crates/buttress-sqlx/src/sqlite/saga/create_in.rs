//! Sagas that are created in the caller's transaction.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{CreateIn, NewSaga, Record};

use super::append::write;
use super::read::{find, lines};
use crate::error::failed;
use crate::queue::Job;
use crate::saga::{LogOp, prepare_create};
use crate::sqlite::SqliteStore;
use crate::sqlite::begin::InTransaction;

/// `Tx` is a [`SqliteTransaction`](crate::SqliteTransaction), or a transaction of sqlx.
impl<Tx: InTransaction> CreateIn<Tx, Vec<u8>> for SqliteStore {
    async fn create_in(
        &self,
        tx: &mut Tx,
        mut saga: NewSaga<Vec<u8>>,
    ) -> Answer<Option<Record<Vec<u8>>>> {
        let creating = |error| failed("creating a saga in a transaction", error);
        prepare_create(&mut saga)?;
        let connection = tx.connection();
        let found = find(connection, saga.id).await.map_err(creating)?;
        if let Some(head) = found.transpose()? {
            let lines = lines(connection, head.number).await?;
            let known = lines.and_then(|lines| head.record(lines));
            return known.map(Some).map_err(StoreError::corrupt);
        }
        // No other transaction writes before this one ends, so the id is still unknown.
        let mut create = LogOp::Create(Job::alone(saga));
        write(connection, self.now(), vec![&mut create]).await.map_err(creating)?;
        Ok(None)
    }
}
