//! Sagas of other versions of a definition.

use buttress_durable::Answer;
use buttress_durable::saga::{OVERDUE, Summary};
use sqlx::AssertSqlSafe;

use super::json;
use crate::error::failed;
use crate::saga::{HEAD, WAITING, WORKING, found};
use crate::sqlite::SqliteStore;
use crate::time::before;

impl SqliteStore {
    pub(super) async fn of_other_versions(
        &self,
        name: &str,
        known: &[u32],
        limit: usize,
    ) -> Answer<Vec<Summary>> {
        let what = "listing sagas of other versions";
        // Looks each version up in the index of its sagas, so that sagas of the known versions cost nothing. `+`
        // keeps SQLite from a scan of all rows in order.
        let versions = |own: &str, status: &str| {
            format!(
                "{own}(version) AS ( \
                     SELECT min(version) FROM buttress_saga WHERE definition = ?1 AND {status} \
                     UNION ALL \
                     SELECT (SELECT min(version) FROM buttress_saga \
                             WHERE definition = ?1 AND {status} AND version > {own}.version) \
                     FROM {own} WHERE {own}.version IS NOT NULL)"
            )
        };
        let working = versions("working", &format!("status IN {WORKING}"));
        let waiting = versions("waiting", WAITING);
        let sql = AssertSqlSafe(format!(
            "WITH RECURSIVE {working}, {waiting}, \
             found(part, place, saga) AS ( \
                 SELECT * FROM (SELECT 0, number, number AS saga FROM buttress_saga AS s \
                     WHERE definition = ?1 AND version IN (SELECT version FROM working \
                         WHERE version NOT IN (SELECT value FROM json_each(?2))) \
                     AND status IN {WORKING} \
                     AND NOT EXISTS (SELECT 1 FROM buttress_saga_worker AS w \
                                     WHERE w.worker = s.worker AND w.until > ?3) \
                     ORDER BY +number LIMIT ?5) \
                 UNION ALL \
                 SELECT * FROM (SELECT 1, s.due_at, s.number FROM waiting AS v \
                     CROSS JOIN buttress_saga AS s ON s.number IN ( \
                         SELECT number FROM buttress_saga INDEXED BY buttress_saga_due \
                         WHERE {WAITING} AND definition = ?1 AND version = v.version \
                         AND due_at <= ?4 ORDER BY due_at LIMIT ?5) \
                     WHERE v.version NOT IN (SELECT value FROM json_each(?2)) \
                     ORDER BY s.due_at LIMIT ?5)) \
             SELECT {HEAD} FROM found CROSS JOIN buttress_saga ON number = found.saga \
             ORDER BY part, place LIMIT ?5"
        ));
        let known: Vec<i64> = known.iter().map(|version| i64::from(*version)).collect();
        self.bounded(what, async {
            let now = self.now();
            let rows = sqlx::query(sql)
                .bind(name)
                .bind(json(&known))
                .bind(now)
                .bind(before(now, OVERDUE))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(self.pool())
                .await
                .map_err(|error| failed(what, error))?;
            Ok(found::other_versions(&rows))
        })
        .await
    }
}
