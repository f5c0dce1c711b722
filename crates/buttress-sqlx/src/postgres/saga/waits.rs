//! Sagas that wait for a time.

use buttress_durable::Answer;
use buttress_durable::saga::{Status, TakeOver, TakenOver};

use super::{logs, query};
use crate::error::during;
use crate::number::signed;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{query_scalar, uuid};
use crate::saga::found::{self, Abandoned};
use crate::saga::{DAMAGED_WAITS, HEAD};
use crate::time::nanos;

impl PostgresStore {
    pub(super) async fn has_due_wait(&self, name: &str, version: u32) -> Answer<bool> {
        let what = "looking for sagas whose wait is over";
        let sql = self.sql(
            "SELECT EXISTS (SELECT 1 FROM {s}buttress_saga \
             WHERE {waiting} AND definition = $2 AND version = $3 AND due_at <= (SELECT {now})) \
             OR EXISTS (SELECT 1 FROM {s}buttress_saga WHERE {waiting} AND definition = $2 \
             AND version = $3 AND due_at::float8 - due_length::float8 > (SELECT {now} + 1000000))",
        );
        self.bounded(what, async {
            let mut loan = self.borrow().await?;
            let found = query_scalar(sql)
                .bind(self.time())
                .bind(name)
                .bind(i64::from(version))
                .fetch_one(&mut *loan)
                .await
                .map_err(during(what))?;
            loan.finish().await?;
            Ok(found)
        })
        .await
    }

    pub(super) async fn take_due_waits(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Vec<u8>>> {
        let text = "taking sagas whose wait is over";
        let what = during(text);
        let TakeOver { worker, definition, version, limit, .. } = sagas;
        let version = i64::from(version);
        // Waits that end later than their length from now, because the clock was set back. A bounded number: after a
        // large step of the clock the next calls shorten the others.
        let shorten = self.sql(
            "WITH t AS MATERIALIZED (SELECT {now} AS now) \
             UPDATE {s}buttress_saga SET due_at = (SELECT now FROM t) + greatest(due_length, 0) \
             WHERE number = ANY (ARRAY(SELECT number FROM {s}buttress_saga \
                 WHERE {waiting} AND definition = $2 AND version = $3 \
                 AND due_at::float8 - due_length::float8 > (SELECT now + 1000000 FROM t) \
                 LIMIT 1000 FOR UPDATE SKIP LOCKED))",
        );
        let due = self.sql(&format!(
            "SELECT {HEAD}, {{now}} FROM {{s}}buttress_saga WHERE {{waiting}} AND definition = $2 \
             AND version = $3 AND due_at <= (SELECT {{now}}) ORDER BY due_at LIMIT $4 \
             FOR UPDATE SKIP LOCKED"
        ));
        let wake = self.sql(&format!(
            "UPDATE {{s}}buttress_saga SET status = {}, worker = $1, epoch = epoch + 1 \
             WHERE number = ANY ($2)",
            Status::Running.code()
        ));
        let later = self.sql(
            "UPDATE {s}buttress_saga SET due_at = {now} + $3::int8, due_length = $3::int8 \
             WHERE number = ANY ($2)",
        );
        self.bounded(text, async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            let shortening = query(shorten).bind(self.time()).bind(definition).bind(version);
            shortening.execute(&mut *tx).await.map_err(what)?;
            let rows = query(due)
                .bind(self.time())
                .bind(definition)
                .bind(version)
                .bind(signed(limit as u64))
                .fetch_all(&mut *tx)
                .await
                .map_err(what)?;
            let all = found::numbers(&rows).map_err(what)?;
            let mut found = Abandoned::read(&rows).map_err(what)?;
            found.heads.iter_mut().for_each(|head| head.wake());
            let logs = logs(&mut tx, &self.inner.sql, &found.numbers()).await.map_err(what)?;
            let now = found::now(&rows).map_err(what)?;
            let mut taken = found.taken;
            let sound = found::take(found.heads, logs, now, &mut taken);
            let damaged: Vec<i64> =
                all.into_iter().filter(|number| !sound.contains(number)).collect();
            let waking = query(wake).bind(uuid(worker.get())).bind(&sound);
            waking.execute(&mut *tx).await.map_err(what)?;
            if !damaged.is_empty() {
                let later = query(later).bind(self.time()).bind(&damaged);
                later.bind(nanos(DAMAGED_WAITS)).execute(&mut *tx).await.map_err(what)?;
            }
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            Ok(taken)
        })
        .await
    }
}
