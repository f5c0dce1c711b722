//! [`MemoryDeadLetters`]: dead letters in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use buttress::{Clock, StoreError};

use super::dead_letters::{DeadLetters, LetterBacklog, LetterClaim, LetterPage};
use super::letter::{Letter, LetterId, Replay, ReplayId};
use crate::answer::Answer;
use crate::instant;

/// Dead letters in memory, for tests and for messages that need not survive the process. Clones share one store.
#[derive(Clone)]
pub struct MemoryDeadLetters {
    clock: Clock,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    last: u64,
    /// By sequence.
    letters: BTreeMap<u64, Row>,
}

struct Row {
    letter: Letter,
    /// The last claim.
    claim: Option<ReplayId>,
    /// When the claim ends. `None` if it ended with the letter's next burial.
    until: Option<Instant>,
}

impl Row {
    fn is_free(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Returns `true` if a replay other than `replay` has a claim on this letter that keeps it from the letters of
    /// `key`.
    fn holds(&self, now: Instant, key: &str, replay: ReplayId) -> bool {
        let is_of_key = !key.is_empty() && self.letter.key == key;
        is_of_key && self.claim != Some(replay) && !self.is_free(now)
    }
}

impl MemoryDeadLetters {
    /// Creates an empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        buttress::__simulated::check_clock("MemoryDeadLetters", &clock);
        Self { clock, rows: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn row(&mut self, id: LetterId) -> Option<&mut Row> {
        self.letters.values_mut().find(|row| row.letter.id == id)
    }

    fn of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Row> {
        self.letters.values().filter(move |row| row.letter.group == group)
    }

    /// Returns `true` if the claim has not ended, or if no other replay has the letter's key.
    fn may_renew(&self, sequence: u64, replay: ReplayId, now: Instant) -> bool {
        self.letters.get(&sequence).is_some_and(|row| {
            let Letter { group, key, .. } = &row.letter;
            !row.is_free(now) || !self.of(group).any(|other| other.holds(now, key, replay))
        })
    }

    /// Returns the letters of a page, without its limit.
    fn meant<'a>(&'a mut self, page: LetterPage<'a>) -> impl Iterator<Item = &'a mut Row> {
        let LetterPage { group, select, after, .. } = page;
        let later = self.letters.range_mut(after.saturating_add(1)..).map(|(_, row)| row);
        later.filter(move |row| row.letter.group == group && select.matches(&row.letter))
    }
}

fn fenced(replay: Replay) -> StoreError {
    let Replay { id, letter } = replay;
    StoreError::fenced(format!("dead letter {letter}: not claimed by replay {id}"))
}

impl DeadLetters for MemoryDeadLetters {
    async fn bury_letter(&self, letter: &Letter) -> Answer<()> {
        let mut rows = self.lock();
        if rows.row(letter.id).is_none() {
            rows.last += 1;
            let sequence = rows.last;
            let letter = Letter { sequence, ..letter.clone() };
            rows.letters.insert(sequence, Row { letter, claim: None, until: None });
        }
        Ok(())
    }

    async fn rebury_letter(&self, replay: ReplayId, letter: &Letter) -> Answer<()> {
        let mut rows = self.lock();
        let row = rows.row(letter.id).filter(|row| row.claim == Some(replay));
        let row = row.ok_or_else(|| fenced(Replay::new(replay, letter.id)))?;
        let old = &mut row.letter;
        old.reason = letter.reason;
        old.error.clone_from(&letter.error);
        (old.attempts, old.replays) = (letter.attempts, letter.replays);
        (old.died_at, old.due_at) = (letter.died_at, letter.due_at);
        old.holds_key = letter.holds_key;
        row.until = None;
        Ok(())
    }

    async fn resolve_letter(&self, replay: Replay) -> Answer<()> {
        let mut rows = self.lock();
        let Some(row) = rows.row(replay.letter) else { return Ok(()) };
        if row.claim != Some(replay.id) {
            return Err(fenced(replay));
        }
        let sequence = row.letter.sequence;
        rows.letters.remove(&sequence);
        Ok(())
    }

    async fn list_letters(&self, page: LetterPage<'_>) -> Answer<Vec<Letter>> {
        let mut rows = self.lock();
        Ok(rows.meant(page).take(page.limit).map(|row| row.letter.clone()).collect())
    }

    async fn claim_letters(&self, claim: LetterClaim<'_>) -> Answer<Vec<Letter>> {
        let LetterClaim { page, replay, lease } = claim;
        let now = self.clock.now();
        let mut rows = self.lock();
        let own = Some(replay);
        let others = rows.of(page.group).filter(|row| row.claim != own && !row.is_free(now));
        let mut held: BTreeSet<String> = others.map(|row| row.letter.key.clone()).collect();
        held.remove("");
        let free = rows.meant(page).filter(|row| row.claim == own || row.is_free(now));
        let free = free.filter(|row| !held.contains(&row.letter.key));
        let claimed = free.take(page.limit).map(|row| {
            let again = u32::from(row.claim != own);
            row.letter.replays = row.letter.replays.saturating_add(again);
            (row.claim, row.until) = (own, Some(instant::after(now, lease)));
            row.letter.clone()
        });
        Ok(claimed.collect())
    }

    async fn renew_replays(&self, replays: &[Replay], lease: Duration) -> Answer<Vec<bool>> {
        let now = self.clock.now();
        let until = Some(instant::after(now, lease));
        let mut rows = self.lock();
        // In the order of the letters: of ended claims on one key, the replay of the first letter gets the key.
        let asked: BTreeSet<Replay> = replays.iter().copied().collect();
        let of_asked = |row: &Row| {
            let replay = Replay::new(row.claim?, row.letter.id);
            (row.until.is_some() && asked.contains(&replay)).then_some(replay)
        };
        let claims =
            rows.letters.iter().filter_map(|(sequence, row)| Some((*sequence, of_asked(row)?)));
        let claims: Vec<(u64, Replay)> = claims.collect();
        let mut renewed = BTreeSet::new();
        for (sequence, replay) in claims {
            if rows.may_renew(sequence, replay.id, now) {
                rows.letters.entry(sequence).and_modify(|row| row.until = until);
                renewed.insert(replay);
            }
        }
        Ok(replays.iter().map(|replay| renewed.contains(replay)).collect())
    }

    async fn remove_letters(&self, ids: &[LetterId]) -> Answer<usize> {
        let mut rows = self.lock();
        let before = rows.letters.len();
        rows.letters.retain(|_, row| !ids.contains(&row.letter.id));
        Ok(before - rows.letters.len())
    }

    async fn purge_letters(&self, group: &str, age: Duration, limit: usize) -> Answer<usize> {
        let (now, wall) = (self.clock.now(), self.clock.unix());
        let mut rows = self.lock();
        let is_old = |letter: &Letter| letter.died_at.saturating_add(age) <= wall;
        let old = rows.of(group).filter(|row| is_old(&row.letter) && row.is_free(now));
        let old = old.filter(|row| row.letter.due_at.is_none()).take(limit);
        let old: Vec<u64> = old.map(|row| row.letter.sequence).collect();
        rows.letters.retain(|sequence, _| !old.contains(sequence));
        Ok(old.len())
    }

    async fn holds_key(&self, group: &str, key: &str) -> Answer<bool> {
        let rows = self.lock();
        Ok(rows.of(group).any(|row| row.letter.holds_key && row.letter.key == key))
    }

    async fn letter_backlog(&self, group: &str) -> Answer<LetterBacklog> {
        let rows = self.lock();
        let letters = || rows.of(group).map(|row| &row.letter);
        let held = letters().filter(|letter| letter.holds_key).map(|letter| &letter.key);
        let oldest = letters().map(|letter| letter.died_at).min();
        Ok(LetterBacklog {
            letters: letters().count() as u64,
            delayed: letters().filter(|letter| letter.due_at.is_some()).count() as u64,
            held_keys: held.collect::<BTreeSet<_>>().len() as u64,
            oldest_age: oldest
                .map_or(Duration::ZERO, |died| self.clock.unix().saturating_sub(died)),
        })
    }
}

impl fmt::Debug for MemoryDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.lock().letters.len();
        f.debug_struct("MemoryDeadLetters").field("letters", &letters).finish_non_exhaustive()
    }
}
