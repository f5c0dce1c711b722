//! The query plans of a relay's two statements.

use buttress::StoreError;
use buttress_durable::outbox::{Lease, Settled};
use sqlx::Row as _;

use super::fetch::{self, statement};
use super::settle::{bind_delivery, delivery};
use crate::error::during;
use crate::outbox::{Sorted, fences, sort};
use crate::postgres::PostgresStore;
use crate::postgres::rows::{PgQuery, query};

impl PostgresStore {
    /// Returns the plan and the measured run of a fetch from these partitions: the text of `EXPLAIN
    /// ANALYZE`.
    ///
    /// Changes nothing. Use it to examine a slow relay.
    ///
    /// # Errors
    /// Returns `Transient` if the database cannot be reached.
    pub async fn explain_fetch(
        &self,
        leases: &[Lease],
        limit: usize,
    ) -> Result<String, StoreError> {
        self.explain("explaining a fetch", &statement(leases), |query| {
            fetch::bind(query, self.time(), leases, limit)
        })
        .await
    }

    /// Returns the plan and the measured run of the statement that records these messages as
    /// delivered.
    ///
    /// Changes nothing, like [`explain_fetch`](Self::explain_fetch).
    ///
    /// # Errors
    /// Returns `Transient` if the database cannot be reached.
    pub async fn explain_settle(&self, settled: &[Settled]) -> Result<String, StoreError> {
        let asked = fences(settled);
        let Sorted { delivered, .. } = sort(settled, &asked);
        self.explain("explaining a settlement", &delivery(), |query| {
            bind_delivery(query, &self.inner.sql, &asked, &delivered)
        })
        .await
    }

    async fn explain(
        &self,
        what: &'static str,
        statement: &str,
        bind: impl for<'q> Fn(PgQuery<'q>) -> PgQuery<'q>,
    ) -> Result<String, StoreError> {
        let sql = self.sql(&format!("EXPLAIN (ANALYZE, COSTS OFF) {statement}"));
        self.bounded(what, async {
            let what = during(what);
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            let rows = bind(query(sql)).fetch_all(&mut *tx).await.map_err(what)?;
            tx.rollback().await.map_err(what)?;
            loan.finish().await?;
            let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            Ok(lines.map_err(what)?.join("\n"))
        })
        .await
    }
}
