//! Dead letters of consumers between the trait and the table.

use std::collections::BTreeSet;
use std::future::Future;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::consume::{
    Letter, LetterBacklog, LetterId, LetterPage, Reason, Replay, Select,
};

use crate::bounds::{check_name, check_text};
use crate::columns::Columns;
use crate::headers;
use crate::time::{duration, nanos};

/// How many letters one transaction of a purge removes.
pub(crate) const PURGE_BATCH: usize = 2000;

/// The columns of a letter.
pub(crate) const COLUMNS: &str = "sequence, id, consumer_group, source, key, topic, payload, headers, reason, error, \
                                  attempts, replays, died_at, due_at, holds_key";

/// A letter as the columns take it.
pub(crate) struct Values<'l> {
    pub group: &'l str,
    pub source: &'l str,
    pub key: &'l [u8],
    pub topic: &'l [u8],
    pub payload: &'l [u8],
    pub headers: Option<Vec<u8>>,
    pub state: State,
}

/// The fields of a letter that a replay changes.
pub(crate) struct State {
    pub reason: &'static str,
    pub error: String,
    pub attempts: i64,
    pub replays: i64,
    pub died_at: i64,
    pub due_at: Option<i64>,
    pub holds_key: bool,
}

impl State {
    pub(crate) fn of(letter: &Letter) -> Self {
        Self {
            reason: letter.reason.as_str(),
            error: crate::bounds::readable(&letter.error),
            attempts: letter.attempts.into(),
            replays: letter.replays.into(),
            died_at: nanos(letter.died_at),
            due_at: letter.due_at.map(nanos),
            holds_key: letter.holds_key,
        }
    }
}

impl<'l> Values<'l> {
    /// Returns the columns of a letter. Refuses names that a database cannot hold.
    pub(crate) fn of(letter: &'l Letter) -> Result<Self, StoreError> {
        let what = format!("dead letter {}", letter.id);
        check_name(&format!("{what}: group"), &letter.group)?;
        check_text(&format!("{what}: source"), &letter.source)?;
        Ok(Self {
            group: &letter.group,
            source: &letter.source,
            key: letter.key.as_bytes(),
            topic: letter.topic.as_bytes(),
            payload: &letter.payload,
            headers: headers::encode(&letter.headers),
            state: State::of(letter),
        })
    }
}

/// The parameters of a [`Select`], and which of the conditions a statement has.
#[derive(Default)]
pub(crate) struct Chosen {
    pub by: By,
    pub ids: Option<Vec<u128>>,
    pub reason: Option<&'static str>,
    pub due: Option<i64>,
}

#[derive(Clone, Copy, Default)]
pub(crate) enum By {
    Ids,
    Reason,
    Due,
    /// All letters, also for a selection that this release does not know.
    #[default]
    Nothing,
}

impl Chosen {
    pub(crate) fn of(select: &Select) -> Result<Self, StoreError> {
        let none = Self::default();
        Ok(match select {
            Select::Ids(ids) => {
                let ids = ids.iter().map(|id| id.get()).collect();
                Self { by: By::Ids, ids: Some(ids), ..none }
            }
            Select::Reason(reason) => {
                Self { by: By::Reason, reason: Some(reason.as_str()), ..none }
            }
            Select::Due(now) => Self { by: By::Due, due: Some(nanos(*now)), ..none },
            Select::All => none,
            other => {
                let what = format!("selecting dead letters: {other:?} is unknown to this release");
                return Err(StoreError::invalid(what));
            }
        })
    }
}

/// Reads a letter, whose first columns are [`COLUMNS`].
fn read<R: Columns>(row: &R) -> Result<Letter, String> {
    let wrong = |error: sqlx::Error| error.to_string();
    let id = LetterId::new(row.id(1).map_err(wrong)?);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|error| error.to_string());
    let number = |column| {
        let number = row.int(column).map_err(wrong)?;
        u32::try_from(number)
            .map_err(|_| format!("dead letter {id}: the count {number} is out of range"))
    };
    let reason = row.text(8).map_err(wrong)?;
    let reason = Reason::ALL
        .into_iter()
        .find(|known| known.as_str() == reason)
        .ok_or_else(|| format!("dead letter {id}: the reason {reason:?} is unknown"))?;
    let (group, source) = (row.text(2).map_err(wrong)?, row.text(3).map_err(wrong)?);
    let key = text(row.bytes(4).map_err(wrong)?)?;
    let mut letter = Letter::new(id, group, source, key, reason);
    letter.sequence = row.int(0).map_err(wrong)?.unsigned_abs();
    letter.topic = text(row.bytes(5).map_err(wrong)?)?;
    letter.payload = row.bytes(6).map_err(wrong)?;
    letter.headers = headers::decode(row.bytes_or_null(7).map_err(wrong)?.as_deref())
        .ok_or_else(|| format!("dead letter {id}: its headers cannot be read"))?;
    letter.error = row.text(9).map_err(wrong)?;
    (letter.attempts, letter.replays) = (number(10)?, number(11)?);
    letter.died_at = duration(row.int(12).map_err(wrong)?);
    letter.due_at = row.int_or_null(13).map_err(wrong)?.map(duration);
    letter.holds_key = row.flag(14).map_err(wrong)?;
    Ok(letter)
}

/// Reads letters in the order of their sequence. Leaves out those that cannot be read, and logs them.
pub(crate) fn read_all<R: Columns>(rows: &[R]) -> Vec<Letter> {
    let readable = |row: &R| match read(row) {
        Ok(letter) => Some(letter),
        Err(error) => {
            let sequence = row.int(0).unwrap_or_default();
            tracing::error!(
                sequence,
                error,
                "a dead letter cannot be read; it is left out of the result"
            );
            None
        }
    };
    let mut letters: Vec<Letter> = rows.iter().filter_map(readable).collect();
    letters.sort_unstable_by_key(|letter| letter.sequence);
    letters
}

/// Returns the letters of a page, from the rows that `fetch` returns. Fills the page, although letters that cannot be
/// read are left out: a caller takes a shorter page for the last one.
pub(crate) async fn list_with<'p, R: Columns, F: Future<Output = Answer<Vec<R>>>>(
    mut page: LetterPage<'p>,
    fetch: impl Fn(LetterPage<'p>) -> F,
) -> Answer<Vec<Letter>> {
    let (limit, mut letters) = (page.limit, Vec::new());
    loop {
        let rows = fetch(page).await?;
        letters.extend(read_all(&rows));
        let last = rows.last().filter(|_| rows.len() >= page.limit);
        let left = limit.saturating_sub(letters.len());
        match last.and_then(|row| row.int(0).ok()) {
            Some(last) if left > 0 => {
                page = page.after(last.unsigned_abs());
                page.limit = left;
            }
            _ => return Ok(letters),
        }
    }
}

/// Reads the numbers of a backlog: letters, letters with a due time, held keys, and the age of the oldest one.
pub(crate) fn backlog<R: Columns>(row: &R) -> sqlx::Result<LetterBacklog> {
    let mut backlog = LetterBacklog::default();
    backlog.letters = row.int(0)?.unsigned_abs();
    backlog.delayed = row.int(1)?.unsigned_abs();
    backlog.held_keys = row.int(2)?.unsigned_abs();
    backlog.oldest_age = duration(row.int(3)?);
    Ok(backlog)
}

/// Refuses a write that did not find its claim.
pub(crate) fn unless_fenced(replay: Replay, found: bool) -> Answer<()> {
    if found {
        return Ok(());
    }
    let Replay { id, letter, .. } = replay;
    Err(StoreError::fenced(format!("dead letter {letter}: not claimed by replay {id}")))
}

/// Returns for each claim whether it is among the renewed ones: rows of a letter and its claim.
pub(crate) fn renewed<R: Columns>(replays: &[Replay], rows: &[R]) -> sqlx::Result<Vec<bool>> {
    let pair = |row: &R| -> sqlx::Result<_> { Ok((row.id(0)?, row.id(1)?)) };
    let pairs = rows.iter().map(pair).collect::<Result<BTreeSet<_>, _>>()?;
    let is_held = |replay: &Replay| pairs.contains(&(replay.letter.get(), replay.id.get()));
    Ok(replays.iter().map(is_held).collect())
}

/// Implements [`DeadLetters`](buttress_durable::consume::DeadLetters) over the functions of `letters` of a database.
macro_rules! dead_letters {
    ($store:ty) => {
        impl DeadLetters for $store {
            async fn bury_letter(&self, letter: &Letter) -> Answer<()> {
                self.bounded("writing a dead letter", bury(self, letter)).await
            }

            async fn rebury_letter(&self, replay: ReplayId, letter: &Letter) -> Answer<()> {
                let is_claimed =
                    self.bounded("writing a replayed letter", rebury(self, replay, letter)).await?;
                $crate::letters::unless_fenced(Replay::new(replay, letter.id), is_claimed)
            }

            async fn resolve_letter(&self, replay: Replay) -> Answer<()> {
                let is_claimed =
                    self.bounded("removing a replayed letter", resolve(self, replay)).await?;
                $crate::letters::unless_fenced(replay, is_claimed)
            }

            async fn list_letters(&self, page: LetterPage<'_>) -> Answer<Vec<Letter>> {
                self.bounded("listing letters of a group", list(self, page)).await
            }

            async fn claim_letters(&self, asked: LetterClaim<'_>) -> Answer<Vec<Letter>> {
                let rows = self.bounded("claiming letters", claim(self, asked)).await?;
                Ok($crate::letters::read_all(&rows))
            }

            async fn renew_replays(
                &self,
                replays: &[Replay],
                lease: Duration,
            ) -> Answer<Vec<bool>> {
                if replays.is_empty() {
                    return Ok(Vec::new());
                }
                let what = "renewing claims on letters";
                let rows = self.bounded(what, renew(self, replays, lease)).await?;
                $crate::letters::renewed(replays, &rows).map_err($crate::error::during(what))
            }

            async fn remove_letters(&self, ids: &[LetterId]) -> Answer<usize> {
                self.bounded("removing letters", remove(self, ids)).await
            }

            async fn purge_letters(
                &self,
                group: &str,
                age: Duration,
                limit: usize,
            ) -> Answer<usize> {
                $crate::purge::in_batches(limit, $crate::letters::PURGE_BATCH, |some| {
                    self.bounded("purging letters", purge(self, group, age, some))
                })
                .await
            }

            async fn holds_key(&self, group: &str, key: &str) -> Answer<bool> {
                self.bounded("asking for a held key", holds(self, group, key)).await
            }

            async fn letter_backlog(&self, group: &str) -> Answer<LetterBacklog> {
                self.bounded("counting letters", count(self, group)).await
            }
        }
    };
}
pub(crate) use dead_letters;
