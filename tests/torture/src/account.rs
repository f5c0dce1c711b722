//! [`Account`]: what was written, published and handled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buttress_sqlx::SqliteStore;
use buttress_sqlx::sqlx::{self, Row as _};
use tower::BoxError;

use crate::{PER_SECOND, UNDER_WAY};

/// What was written, published and handled.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Account {
    /// The seed of the kills and cuts, for `BUTTRESS_SEED`.
    pub seed: u64,
    /// Events that were written to the outbox.
    pub written: u32,
    /// How long the writing took.
    pub wrote_for: Duration,
    /// Children that were killed.
    pub kills: u32,
    /// How often all connections were cut.
    pub cuts: u32,
    /// Events without an effect.
    pub lost: u32,
    /// Effects that happened again.
    pub doubled: u32,
    /// First handlings that came before an earlier event of their key.
    pub out_of_order: u32,
    /// First copies of events that stand in the transport before an earlier event of their key.
    pub published_out_of_order: u32,
    /// Further copies of events in the transport.
    pub published_twice: u32,
    /// Dead letters of the relay.
    pub dead: u64,
    /// How long the children needed after the last write.
    pub finished_after: Duration,
}

impl Account {
    /// Returns whether the rules hold, and whether there was enough of the load that was asked for: nine tenths in a run of
    /// a minute, half of it in a shorter one beside other tests.
    #[must_use]
    pub fn balances(&self, time: Duration) -> bool {
        let Self { lost, doubled, out_of_order, published_out_of_order, dead, .. } = *self;
        let wrong = u64::from(lost + doubled + out_of_order + published_out_of_order) + dead;
        let disturbances = self.kills + self.cuts;
        let most_copies = disturbances as usize * UNDER_WAY;
        let share = if time >= Duration::from_secs(60) { 0.9 } else { 0.5 };
        wrong == 0
            && self.published_twice as usize <= most_copies
            && u64::from(disturbances) >= time.as_secs()
            && f64::from(self.written) >= share * f64::from(PER_SECOND) * time.as_secs_f64()
    }

    /// Reads the effects in the order in which they happened. The inbox lets the first handling of an event have one.
    pub(crate) async fn take_in_effects(&mut self, effects: &SqliteStore) -> Result<(), BoxError> {
        let mut tx = effects.begin().await?;
        let all = "SELECT subject, number FROM effects ORDER BY at";
        let rows = sqlx::query(all).fetch_all(&mut **tx).await?;
        let (mut next, mut seen) = (BTreeMap::<String, u32>::new(), BTreeSet::new());
        for row in &rows {
            let (subject, number): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let number = u32::try_from(number)?;
            let expected = next.entry(subject.clone()).or_default();
            self.out_of_order += u32::from(number != *expected);
            *expected = number + 1;
            self.doubled += u32::from(!seen.insert((subject, number)));
        }
        self.lost = self.written - u32::try_from(seen.len())?;
        Ok(())
    }

    pub(crate) fn take_in_published(
        &mut self,
        published: &[(String, Vec<u8>)],
    ) -> Result<(), BoxError> {
        let mut next = BTreeMap::<&str, u32>::new();
        for (key, payload) in published {
            let number: u32 = std::str::from_utf8(payload)?.parse()?;
            let expected = next.entry(key).or_default();
            self.published_out_of_order += u32::from(number > *expected);
            self.published_twice += u32::from(number < *expected);
            *expected = (number + 1).max(*expected);
        }
        Ok(())
    }
}

/// Creates the table of the effects.
pub(crate) async fn create(effects: &SqliteStore) -> Result<(), BoxError> {
    let mut tx = effects.begin().await?;
    let table = "CREATE TABLE effects (at INTEGER PRIMARY KEY, subject TEXT NOT NULL, number INTEGER NOT NULL)";
    sqlx::query(table).execute(&mut **tx).await?;
    Ok(tx.commit().await?)
}

/// Returns how many effects there are.
pub(crate) async fn count(effects: &SqliteStore) -> Result<u64, BoxError> {
    let mut tx = effects.begin().await?;
    let row = sqlx::query("SELECT COUNT(*) FROM effects").fetch_one(&mut **tx).await?;
    Ok(row.try_get::<i64, _>(0)?.try_into()?)
}
