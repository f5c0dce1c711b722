//! Taking one saga.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{Record, SagaId, WorkerId};
use sqlx::AssertSqlSafe;

use super::read::lines;
use super::{own, shorten};
use crate::error::failed;
use crate::saga::delegated::Wanted;
use crate::saga::{ENDED, HEAD, STUCK, head, unreadable};
use crate::sqlite::SqliteStore;
use crate::sqlite::pack::Pack;
use crate::sqlite::rows::bytes_of_id;

impl SqliteStore {
    /// Takes one saga, if it is as `wanted`.
    pub(super) async fn take_one(
        &self,
        worker: WorkerId,
        saga: SagaId,
        wanted: Wanted,
    ) -> Answer<Option<Record<Vec<u8>>>> {
        let what = "taking a saga";
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let now = self.now();
            shorten(&mut tx, now).await.map_err(|error| failed(what, error))?;
            let (free, owner) = match wanted {
                Wanted::Free => (
                    format!(
                        "(status IN {STUCK} OR worker = ?3 OR NOT EXISTS ( \
                         SELECT 1 FROM buttress_saga_worker AS w \
                         WHERE w.worker = buttress_saga.worker AND w.until > ?2))"
                    ),
                    worker,
                ),
                Wanted::Unowned => ("worker = ?3".to_owned(), WorkerId::NOBODY),
            };
            let sql = AssertSqlSafe(format!(
                "SELECT {HEAD} FROM buttress_saga WHERE id = ?1 AND status NOT IN {ENDED} AND {free}"
            ));
            let row = sqlx::query(sql)
                .bind(bytes_of_id(saga.get()))
                .bind(now)
                .bind(bytes_of_id(owner.get()))
                .fetch_optional(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            let Some(row) = row else {
                // Shortened leases stay shortened.
                tx.commit().await?;
                return Ok(None);
            };
            let head = head(&row).map_err(|error| unreadable(saga, "row", error))?;
            let number = head.number;
            let lines = lines(&mut tx, number).await?;
            let record = lines.and_then(|lines| head.taken(lines, now)).map_err(StoreError::corrupt)?;
            let mut numbers = Pack::new();
            numbers.row().int(number);
            own(&mut tx, worker, numbers).await.map_err(|error| failed(what, error))?;
            tx.commit().await?;
            Ok(Some(record))
        })
        .await
    }
}
