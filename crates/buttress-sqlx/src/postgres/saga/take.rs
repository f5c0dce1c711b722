//! Taking one saga.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{Record, SagaId, Status, WorkerId};

use super::read::lines;
use super::{own, shorten};
use crate::error::during;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query, query_scalar, uuid};
use crate::saga::delegated::Wanted;
use crate::saga::{HEAD, found, head, unreadable};

impl PostgresStore {
    /// Takes one saga, if it is as `wanted`.
    pub(super) async fn take_one(
        &self,
        worker: WorkerId,
        saga: SagaId,
        wanted: Wanted,
    ) -> Answer<Option<Record<Vec<u8>>>> {
        let what = during("taking a saga");
        let lock = self.sql(&format!(
            "SELECT {HEAD}, {{now}} FROM {{s}}buttress_saga WHERE id = $2 FOR UPDATE"
        ));
        let live = self.sql(
            "SELECT EXISTS (SELECT 1 FROM {s}buttress_saga_worker \
             WHERE worker = $2 AND until > {now})",
        );
        self.bounded("taking a saga", async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            shorten(&mut tx, &self.inner.sql).await.map_err(what)?;
            let row =
                query(lock).bind(self.time()).bind(uuid(saga.get())).fetch_optional(&mut *tx).await;
            let row = row.map_err(what)?;
            let now = found::now(row.as_slice()).map_err(what)?;
            let found = row.as_ref().map(head).transpose();
            let taken = match found.map_err(|error| unreadable(saga, "row", error))? {
                None => None,
                Some(head) if matches!(head.status(), Ok(status) if status.is_ended()) => None,
                Some(head) if wanted == Wanted::Unowned && head.worker != WorkerId::NOBODY => None,
                Some(head) => {
                    let is_live: bool = query_scalar(live)
                        .bind(self.time())
                        .bind(uuid(head.worker.get()))
                        .fetch_one(&mut *tx)
                        .await
                        .map_err(what)?;
                    if is_live && head.worker != worker && head.status() != Ok(Status::Stuck) {
                        None
                    } else {
                        let number = head.number;
                        let lines = lines(&mut tx, &self.inner.sql, number).await.map_err(what)?;
                        let record = lines.and_then(|lines| head.taken(lines, now));
                        let record = record.map_err(StoreError::corrupt);
                        if record.is_ok() {
                            let sql = &self.inner.sql;
                            own(&mut tx, sql, worker, &[number]).await.map_err(what)?;
                        }
                        Some(record)
                    }
                }
            };
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            taken.transpose()
        })
        .await
    }
}
