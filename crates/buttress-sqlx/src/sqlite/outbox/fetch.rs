//! Fetching due messages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use buttress::StoreError;
use buttress_durable::outbox::{Fetched, Lease, Message, Store as _};
use sqlx::{AssertSqlSafe, Row as _};

use crate::error::during;
use crate::number::signed;
use crate::outbox::owners;
use crate::outbox::{COLUMNS, FOREVER, Row, buried, bury_or_pass_over};
use crate::sqlite::SqliteStore;
use crate::sqlite::relaying::{Mark, RelayOp, highest};
use crate::sqlite::writer::WriteOp;
use crate::time::duration;

/// A partition that the caller owns under the epoch of its lease.
struct Open {
    lease: Lease,
    /// The greatest sequence that the owner has fetched.
    high: i64,
    /// When the next delayed message is due.
    delayed: Option<i64>,
    /// When the next hold of a key ends.
    held: Option<i64>,
}

impl SqliteStore {
    pub(super) async fn fetch_some(
        &self,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        let now = self.now();
        let fetched = self.fetch_at(leases, limit, now).await?;
        // Looks for holds and delays that are too long when nothing else is left to do, and at each
        // renewal of the leases.
        if fetched.next_due.is_none() || fetched.messages.len() >= limit {
            return Ok(fetched);
        }
        let partitions: Vec<u16> = leases.iter().map(|lease| lease.partition).collect();
        if !self.waits_too_long(&partitions, now).await? {
            return Ok(fetched);
        }
        let wrap = |job| WriteOp::Relay(RelayOp::Shorten(job));
        self.submit("fetching messages", partitions, wrap).await?;
        self.fetch_at(leases, limit, now).await
    }

    async fn waits_too_long(&self, partitions: &[u16], now: i64) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM buttress_outbox_hold \
                 WHERE partition IN (SELECT value FROM json_each(?1)) AND until - length > ?2) \
             OR EXISTS (SELECT 1 FROM buttress_outbox WHERE status = 1 \
                 AND partition IN (SELECT value FROM json_each(?1)) AND due_at - length > ?2)",
        )
        .bind(format!("{partitions:?}"))
        .bind(now)
        .fetch_one(self.pool())
        .await
        .map_err(during("fetching messages"))
    }

    async fn fetch_at(
        &self,
        leases: &[Lease],
        limit: usize,
        now: i64,
    ) -> Result<Fetched, StoreError> {
        let mut open = self.open_partitions(leases, now).await?;
        let due = |open: &Open| open.delayed.is_some_and(|due| due <= now);
        let waking: Vec<u16> =
            open.iter().filter(|open| due(open)).map(|open| open.lease.partition).collect();
        if !waking.is_empty() {
            let wrap = |job| WriteOp::Relay(RelayOp::Wake(job));
            self.submit("fetching messages", waking, wrap).await?;
            open = self.open_partitions(leases, now).await?;
        }
        let next_due = open.iter().flat_map(|open| [open.delayed, open.held]).flatten().min();
        let mut fetched = Fetched::new(Vec::new(), duration(now));
        fetched.next_due = next_due.map(duration);
        if !open.is_empty() && limit > 0 {
            fetched.messages = self.scan(&open, limit, now).await?;
            self.mark(&open, &mut fetched.messages).await?;
        }
        Ok(fetched)
    }

    async fn open_partitions(&self, leases: &[Lease], now: i64) -> Result<Vec<Open>, StoreError> {
        let what = during("fetching messages");
        let rows = sqlx::query(
            "SELECT partition, epoch, suspect_to, high, \
             (SELECT min(due_at) FROM buttress_outbox AS m \
              WHERE m.status = 1 AND m.partition = l.partition), \
             (SELECT min(until) FROM buttress_outbox_hold AS h \
              WHERE h.partition = l.partition AND h.until > ?1 AND h.until < ?2) \
             FROM buttress_outbox_lease AS l WHERE relay IS NOT NULL ORDER BY partition",
        )
        .bind(now)
        .bind(FOREVER)
        .fetch_all(self.pool())
        .await
        .map_err(what)?;
        let mut open = Vec::with_capacity(rows.len());
        for row in &rows {
            let number = |column: usize| row.try_get(column).map_err(what);
            let lease = owners::lease(number(0)?, number(1)?, number(2)?);
            // A partition with a damaged row has no owner.
            let Some(lease) = lease else { continue };
            let asked =
                |asked: &Lease| (asked.partition, asked.epoch) == (lease.partition, lease.epoch);
            if leases.iter().any(asked) {
                open.push(Open {
                    lease,
                    high: row.try_get(3).map_err(what)?,
                    delayed: row.try_get(4).map_err(what)?,
                    held: row.try_get(5).map_err(what)?,
                });
            }
        }
        Ok(open)
    }

    /// Returns the first messages of these partitions together, in the order of their sequence.
    async fn scan(
        &self,
        open: &[Open],
        limit: usize,
        now: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(AssertSqlSafe(merge(open)))
            .bind(now)
            .bind(signed(limit as u64))
            .fetch_all(self.pool())
            .await
            .map_err(during("fetching messages"))?;
        let mut messages: Vec<Message> = Vec::with_capacity(rows.len());
        let mut unreadable = Vec::new();
        for row in &rows {
            match Row::read(row) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    let what = during("fetching messages");
                    let error = StoreError::corrupt(error).to_string();
                    let sequence: i64 = row.try_get(0).map_err(what)?;
                    let partition: i64 = row.try_get(2).map_err(what)?;
                    tracing::error!(sequence, error, "a message cannot be read; its key is held");
                    unreadable.push((sequence, partition, error, row.try_get(3).ok()));
                }
            }
        }
        self.bury(open, &unreadable).await?;
        // No message passes an unreadable message of the same key.
        messages.retain(|message| {
            !unreadable.iter().any(|(sequence, _, _, key)| {
                *sequence < signed(message.sequence)
                    && key.as_ref().is_none_or(|key: &String| *key == message.key)
            })
        });
        Ok(messages)
    }

    /// Makes dead letters of messages that cannot be read. They hold their keys until an operator
    /// discards them, or fixes and requeues them.
    async fn bury(
        &self,
        open: &[Open],
        unreadable: &[(i64, i64, String, Option<String>)],
    ) -> Result<(), StoreError> {
        for (sequence, partition, error, _) in unreadable {
            let leases = open.iter().map(|open| open.lease);
            let settled = buried(leases, (*sequence, *partition), None, error.clone());
            bury_or_pass_over(self.settle(settled.into_iter().collect()).await)?;
        }
        Ok(())
    }

    /// Records the greatest sequence before a relay sees the messages. Removes messages of
    /// partitions that were taken over meanwhile.
    async fn mark(&self, open: &[Open], messages: &mut Vec<Message>) -> Result<(), StoreError> {
        let mut highest: BTreeMap<u16, i64> = highest(messages);
        let marks: Vec<Mark> = open
            .iter()
            .filter_map(|open| {
                let high = highest.remove(&open.lease.partition)?;
                let Lease { partition, epoch, .. } = open.lease;
                (high > open.high).then_some(Mark { partition, epoch, high })
            })
            .collect();
        if marks.is_empty() {
            return Ok(());
        }
        let asked: Vec<u16> = marks.iter().map(|mark| mark.partition).collect();
        let wrap = |job| WriteOp::Relay(RelayOp::Mark(job));
        let marked = self.submit("fetching messages", marks, wrap).await?;
        messages.retain(|message| {
            !asked.contains(&message.partition) || marked.contains(&message.partition)
        });
        Ok(())
    }
}

/// Returns one ordered scan per partition, merged by sequence. It reads little more than it
/// returns, with any number of messages.
fn merge(open: &[Open]) -> String {
    let mut sql = String::new();
    for (n, open) in open.iter().enumerate() {
        let union = if n == 0 { "" } else { " UNION ALL " };
        // Writing to a String cannot fail. A number needs no quoting.
        let _ = write!(
            sql,
            "{union}SELECT {COLUMNS} FROM buttress_outbox AS m INDEXED BY buttress_outbox_pending \
             WHERE status = 0 AND partition = {} AND NOT EXISTS (SELECT 1 FROM buttress_outbox_hold \
             AS h WHERE h.partition = m.partition AND h.key = m.key AND h.until > ?1)",
            open.lease.partition
        );
    }
    sql.push_str(" ORDER BY sequence LIMIT ?2");
    sql
}
