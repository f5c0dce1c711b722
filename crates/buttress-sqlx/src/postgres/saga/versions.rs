//! Sagas of other versions of a definition.

use buttress_durable::Answer;
use buttress_durable::saga::{OVERDUE, Summary};

use super::query;
use crate::error::during;
use crate::number::signed;
use crate::postgres::PostgresStore;
use crate::saga::{HEAD, found};
use crate::time::nanos;

impl PostgresStore {
    pub(super) async fn of_other_versions(
        &self,
        name: &str,
        known: &[u32],
        limit: usize,
    ) -> Answer<Vec<Summary>> {
        let what = during("listing sagas of other versions");
        // Looks each version up in the index of its sagas, so that sagas of the known versions cost nothing. `+ 0`
        // keeps the planner from a scan of all rows in order.
        let versions = |status: &str| {
            format!(
                "(SELECT version FROM {{s}}buttress_saga WHERE definition = $2 AND {status} \
                  ORDER BY version LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT s.version FROM {{s}}buttress_saga AS s WHERE s.definition = $2 \
                         AND s.{status} AND s.version > v.version ORDER BY s.version LIMIT 1) \
                 FROM {{v}} AS v WHERE v.version IS NOT NULL"
            )
        };
        let working = versions("status IN {working}").replace("{v}", "working");
        let waiting = versions("{waiting}").replace("{v}", "waiting");
        let sql = self.sql(&format!(
            "WITH RECURSIVE working(version) AS ({working}), waiting(version) AS ({waiting}), \
             unowned AS ( \
                 SELECT s.number FROM {{s}}buttress_saga AS s WHERE s.definition = $2 \
                 AND s.version = ANY (ARRAY(SELECT version FROM working \
                     WHERE version IS NOT NULL AND version <> ALL ($3))) \
                 AND s.status IN {{working}} \
                 AND NOT EXISTS (SELECT 1 FROM {{s}}buttress_saga_worker AS w \
                                 WHERE w.worker = s.worker AND w.until > {{now}}) \
                 ORDER BY s.number + 0 LIMIT $4), \
             overdue AS ( \
                 SELECT due.number, due.due_at FROM waiting AS v CROSS JOIN LATERAL ( \
                     SELECT s.number, s.due_at FROM {{s}}buttress_saga AS s WHERE s.{{waiting}} \
                     AND s.definition = $2 AND s.version = v.version \
                     AND s.due_at <= (SELECT {{now}} - $5::int8) ORDER BY s.due_at LIMIT $4) AS due \
                 WHERE v.version <> ALL ($3) ORDER BY due.due_at LIMIT $4), \
             found AS (SELECT 0 AS part, number AS place, number AS saga FROM unowned \
                       UNION ALL SELECT 1, due_at, number FROM overdue) \
             SELECT {HEAD} FROM found JOIN {{s}}buttress_saga ON number = found.saga \
             ORDER BY part, place LIMIT $4"
        ));
        let known: Vec<i64> = known.iter().map(|version| i64::from(*version)).collect();
        self.bounded("listing sagas of other versions", async {
            let mut loan = self.borrow().await?;
            let rows = query(sql)
                .bind(self.time())
                .bind(name)
                .bind(known)
                .bind(signed(limit as u64))
                .bind(nanos(OVERDUE))
                .fetch_all(&mut *loan)
                .await
                .map_err(what)?;
            loan.finish().await?;
            Ok(found::other_versions(&rows))
        })
        .await
    }
}
