//! How the database goes about a relay's two statements.

use buttress::StoreError;
use buttress_durable::outbox::{Lease, Settled};
use sqlx::Row as _;

use super::fetch::{self, statement};
use super::settle::{bind_delivery, delivery};
use crate::error::during;
use crate::postgres::PostgresStore;
use crate::postgres::rows::{PgQuery, query};
use crate::relaying::{Sorted, fences, sort};

impl PostgresStore {
    /// How the database goes about fetching from these partitions, and what it met on the way: the text of
    /// `EXPLAIN ANALYZE`. Nothing is changed. For looking into a slow relay.
    ///
    /// # Errors
    /// `Transient` if the database cannot be reached.
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

    /// How the database goes about writing down that these messages were delivered, as
    /// [`explain_fetch`](Self::explain_fetch) says it.
    ///
    /// # Errors
    /// `Transient` if the database cannot be reached.
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
            loan.give_back().await?;
            let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            Ok(lines.map_err(what)?.join("\n"))
        })
        .await
    }
}
