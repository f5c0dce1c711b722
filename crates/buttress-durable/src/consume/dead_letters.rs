//! [`DeadLetters`]: the trait of stores of messages that a consumer has stopped handling. A consumer replays them in
//! `running/dead_letters.rs`.

use std::future::Future;
use std::time::Duration;

use super::letter::{Letter, LetterId, Replay, ReplayId, Select};
use crate::answer::Answer;

/// Some letters of a group, in the order in which they died.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct LetterPage<'a> {
    /// The group of the consumers.
    pub group: &'a str,
    /// Which letters of the group.
    pub select: &'a Select,
    /// The page has only letters with a larger [`sequence`](Letter::sequence). 0 for the first page.
    pub after: u64,
    /// The most letters.
    pub limit: usize,
}

impl<'a> LetterPage<'a> {
    /// Creates the first page of up to `limit` letters.
    #[must_use]
    pub const fn first(group: &'a str, select: &'a Select, limit: usize) -> Self {
        Self { group, select, after: 0, limit }
    }

    /// Continues after the letter with this [`sequence`](Letter::sequence).
    #[must_use]
    pub const fn after(mut self, sequence: u64) -> Self {
        self.after = sequence;
        self
    }
}

/// A claim on some letters, for a replay.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct LetterClaim<'a> {
    /// The letters.
    pub page: LetterPage<'a>,
    /// The replay that claims the letters. All pages of a replay have one id.
    pub replay: ReplayId,
    /// How long the claim lasts without a renewal.
    pub lease: Duration,
}

impl<'a> LetterClaim<'a> {
    /// Creates a claim on the letters of `page`.
    #[must_use]
    pub const fn new(page: LetterPage<'a>, replay: ReplayId, lease: Duration) -> Self {
        Self { page, replay, lease }
    }
}

/// The numbers of the letters of a group.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LetterBacklog {
    /// All letters.
    pub letters: u64,
    /// The letters that a consumer replays by itself at their due time. Counted in `letters` too.
    pub delayed: u64,
    /// The keys whose later messages are parked.
    pub held_keys: u64,
    /// How long ago the oldest letter died. Zero if there is none.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub oldest_age: Duration,
}

/// A store of the dead letters of consumer groups.
///
/// Every future is lazy: an operation that is never polled has no effect. Every write carries its identity, so a
/// caller repeats a write whose answer was lost.
///
/// A consumer that replays letters claims them for a lease, and renews the lease while its handler runs. The claim is
/// a fence: after another consumer has claimed the letter, the first consumer can neither write nor remove it. A
/// claim counts as over at the instant at which its lease ends.
///
/// A key of a group belongs to one replay at a time: a claim on a letter keeps all other replays from every letter of
/// its key, also from earlier ones. So no replay overtakes another one. The key is free when all claims on its letters
/// have ended: by a removal, a new burial, a renewal for no time, or the end of the lease. Letters without a key have no
/// order, and a claim on one of them keeps no replay from the others.
pub trait DeadLetters: Send + Sync + 'static {
    /// Writes a new letter. Changes nothing if the store has a letter with this id.
    ///
    /// # Errors
    /// Returns `Invalid` if the store can never hold the letter.
    fn bury_letter(&self, letter: &Letter) -> impl Future<Output = Answer<()>> + Send;

    /// Writes the new state of a letter whose replay failed: reason, error, times, counts, and whether it holds its
    /// key. Content and place stay. Ends the claim `replay`. A repeated call has no further effect.
    ///
    /// # Errors
    /// Returns `Fenced` if `replay` is not the last claim on the letter, or if the letter was removed.
    fn rebury_letter(
        &self,
        replay: ReplayId,
        letter: &Letter,
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Removes a letter whose replay succeeded. Succeeds also if the letter does not exist any more.
    ///
    /// # Errors
    /// Returns `Fenced` if another claim on the letter followed.
    fn resolve_letter(&self, replay: Replay) -> impl Future<Output = Answer<()>> + Send;

    /// Returns the letters of `page`.
    fn list_letters(
        &self,
        page: LetterPage<'_>,
    ) -> impl Future<Output = Answer<Vec<Letter>>> + Send;

    /// Claims the letters of a page for a lease, and returns them in their order. Raises [`replays`](Letter::replays) by
    /// one.
    ///
    /// Leaves out the letters under a claim of another replay whose lease has not ended, and all letters of their keys.
    /// Fills the page with letters of other keys. Never leaves out a letter and claims a later letter of its key.
    /// Concurrent calls share no key. One replay may claim several pages, with one id.
    ///
    /// A repeated call with the same `replay` returns its letters again, and counts no further replay.
    fn claim_letters(
        &self,
        claim: LetterClaim<'_>,
    ) -> impl Future<Output = Answer<Vec<Letter>>> + Send;

    /// Renews claims: each ends `lease` from now. A lease of zero ends them immediately. Returns for each claim, in
    /// order, whether it is still the last claim on its letter.
    ///
    /// A claim whose lease has ended can be renewed as long as no other claim followed, and no other replay has its
    /// key. If the claims of several replays on one key have ended, a call renews only the claims of the replay that has
    /// the first of their letters. A letter that was written again or removed is not claimed any more.
    fn renew_replays(
        &self,
        replays: &[Replay],
        lease: Duration,
    ) -> impl Future<Output = Answer<Vec<bool>>> + Send;

    /// Removes letters, also claimed ones. Returns how many there were.
    fn remove_letters(&self, ids: &[LetterId]) -> impl Future<Output = Answer<usize>> + Send;

    /// Removes up to `limit` letters of `group` that died at least `age` ago. Returns how many it removed. Leaves
    /// claimed letters, and letters with a due time.
    fn purge_letters(
        &self,
        group: &str,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Answer<usize>> + Send;

    /// Returns `true` if a letter of `group` holds `key`.
    fn holds_key(&self, group: &str, key: &str) -> impl Future<Output = Answer<bool>> + Send;

    /// Counts the letters of `group`.
    fn letter_backlog(&self, group: &str) -> impl Future<Output = Answer<LetterBacklog>> + Send;
}
