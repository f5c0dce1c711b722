//! Sagas that are created in the caller's transaction.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{CreateIn, NewSaga, Record};

use super::append::write_logs;
use super::read::{find, lines};
use crate::error::during;
use crate::postgres::PostgresStore;
use crate::postgres::rows::Tx;
use crate::queue::Job;
use crate::saga::prepare_create;

/// A second transaction with the same id waits for the end of the first one, and then finds its saga.
impl<'a> CreateIn<Tx<'a>, Vec<u8>> for PostgresStore {
    async fn create_in(
        &self,
        tx: &mut Tx<'a>,
        mut saga: NewSaga<Vec<u8>>,
    ) -> Answer<Option<Record<Vec<u8>>>> {
        let what = "creating a saga in a transaction";
        let creating = during(what);
        prepare_create(&mut saga)?;
        self.bounded(what, async {
            let (id, sql) = (saga.id, &self.inner.sql);
            let mut create = Job::alone(saga);
            write_logs(tx, sql, &mut [&mut create], &mut []).await.map_err(creating)?;
            if create.is_settled() {
                return Ok(None);
            }
            let found = find(tx, sql, id).await.map_err(creating)?;
            let Some(head) = found.transpose()? else {
                // Its row was purged between the two statements.
                let why = format!("saga {id}: it was removed at the same time; start it again");
                return Err(StoreError::transient(why));
            };
            let lines = lines(tx, sql, head.number).await.map_err(creating)?;
            lines.and_then(|lines| head.record(lines)).map(Some).map_err(StoreError::corrupt)
        })
        .await
    }
}
