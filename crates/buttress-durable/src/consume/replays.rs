//! The replays that operators have asked for: which letters to claim next, and which claimed letters to handle. Pure.
//!
//! A replay stops at a key whose earlier letter it left out, lost, or could not handle: it leaves out the later letters
//! of the key, so that none overtakes the earlier one.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

use super::letter::{Letter, LetterId, Replay, ReplayId};

/// For how many ended replays it is known that they left out letters.
const REMEMBERED: usize = 64;

/// Turns keys into marks, which take less memory.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    by_key: bool,
    hashes: RandomState,
}

/// A key. Two keys with one hash cost a letter that is left out needlessly.
type Mark = u64;

/// A letter that an operator wants replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub id: LetterId,
    /// `None` if the letter has no order.
    key: Option<Mark>,
}

/// Letters to claim with one request.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub replay: ReplayId,
    /// May be empty.
    pub letters: Vec<Found>,
    /// How many letters before these the replay leaves out.
    pub left_out: usize,
}

/// The answer to a claim on a page.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Claimed {
    pub handle: Vec<Letter>,
    pub release: Vec<Replay>,
    /// How many letters of the page the replay leaves out, with the released ones.
    pub left_out: usize,
}

#[derive(Debug)]
struct Wanted {
    replay: ReplayId,
    /// In the order in which they died.
    letters: VecDeque<Found>,
    /// The keys at which the replay stops.
    stopped: HashSet<Mark>,
}

/// The replays in the order of the requests. The first one is in progress.
#[derive(Debug)]
pub(super) struct Replays {
    marker: Marker,
    wanted: VecDeque<Wanted>,
    /// The last replays that left out letters.
    leaving_out: VecDeque<ReplayId>,
}

impl Marker {
    /// Returns the letter with the mark of its key.
    pub(super) fn found(&self, letter: &Letter) -> Found {
        Found { id: letter.id, key: self.mark(&letter.key) }
    }

    fn mark(&self, key: &str) -> Option<Mark> {
        (self.by_key && !key.is_empty()).then(|| self.hashes.hash_one(key))
    }
}

impl Replays {
    /// Creates an empty list. `by_key` says whether the letters of a key have an order.
    pub(super) fn new(by_key: bool) -> Self {
        let marker = Marker { by_key, hashes: RandomState::new() };
        Self { marker, wanted: VecDeque::new(), leaving_out: VecDeque::new() }
    }

    pub(super) fn marker(&self) -> Marker {
        self.marker.clone()
    }

    /// Adds a replay of `letters`, in the order in which they died.
    pub(super) fn add(&mut self, replay: ReplayId, letters: Vec<Found>) {
        let (letters, stopped) = (letters.into(), HashSet::new());
        self.wanted.push_back(Wanted { replay, letters, stopped });
    }

    /// Forgets all replays. Their letters stay in the store.
    pub(super) fn clear(&mut self) {
        self.wanted.clear();
    }

    /// Returns the next page of up to `most` letters. Returns `None` if no letter is left. The caller takes in the
    /// answer to one page before it asks for the next page.
    pub(super) fn next(&mut self, most: usize) -> Option<Page> {
        while let Some(wanted) = self.wanted.front_mut() {
            let mut page = Page { replay: wanted.replay, letters: Vec::new(), left_out: 0 };
            while page.letters.len() < most {
                let Some(found) = wanted.letters.pop_front() else { break };
                if found.key.is_some_and(|key| wanted.stopped.contains(&key)) {
                    page.left_out += 1;
                } else {
                    page.letters.push(found);
                }
            }
            if !page.letters.is_empty() || page.left_out > 0 {
                return Some(page);
            }
            self.wanted.pop_front();
        }
        None
    }

    /// Takes in the claimed letters of a page whose letters were `asked` for. `left` has the letters that the claim has
    /// left in the store. All other letters of the page have been removed since.
    pub(super) fn claimed(
        &mut self,
        replay: ReplayId,
        asked: &[Found],
        letters: Vec<Letter>,
        left: &[LetterId],
    ) -> Claimed {
        let mut claimed = Claimed { handle: Vec::new(), release: Vec::new(), left_out: 0 };
        // Of letters that became due no list was asked for, and they have no later page.
        let mut of_page = HashSet::new();
        let wanted = self.wanted.iter_mut().find(|wanted| wanted.replay == replay);
        let stopped = wanted.map_or(&mut of_page, |wanted| &mut wanted.stopped);
        let left: HashSet<&LetterId> = left.iter().collect();
        let mut asked = asked.iter();
        // Both are in the order in which the letters died.
        for letter in letters {
            for found in asked.by_ref().take_while(|found| found.id != letter.id) {
                claimed.left_out += usize::from(left.contains(&found.id));
                stopped.extend(found.key.filter(|_| left.contains(&found.id)));
            }
            if self.marker.mark(&letter.key).is_some_and(|key| stopped.contains(&key)) {
                claimed.left_out += 1;
                claimed.release.push(Replay::new(replay, letter.id));
            } else {
                claimed.handle.push(letter);
            }
        }
        for found in asked {
            claimed.left_out += usize::from(left.contains(&found.id));
            stopped.extend(found.key.filter(|_| left.contains(&found.id)));
        }
        claimed
    }

    /// Stops a replay at a key.
    pub(super) fn stop(&mut self, replay: ReplayId, key: &str) {
        let wanted = self.wanted.iter_mut().find(|wanted| wanted.replay == replay);
        if let (Some(wanted), Some(key)) = (wanted, self.marker.mark(key)) {
            wanted.stopped.insert(key);
        }
    }

    /// Records that a replay leaves out letters. Returns `true` for the first time.
    pub(super) fn leaves_out(&mut self, replay: ReplayId) -> bool {
        if self.leaving_out.contains(&replay) {
            return false;
        }
        self.leaving_out.truncate(REMEMBERED - 1);
        self.leaving_out.push_front(replay);
        true
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::consume::letter::Reason;

    const ONE: ReplayId = ReplayId::new(1);

    fn letter(id: u128, key: &str) -> Letter {
        Letter::new(LetterId::new(id), "billing", "bus", key, Reason::Parked)
    }

    /// Replays with one replay of letters 1, 2, ... that have these keys.
    fn replays<const N: usize>(by_key: bool, keys: [&str; N]) -> Replays {
        let mut replays = Replays::new(by_key);
        add(&mut replays, ONE, keys);
        replays
    }

    fn add<const N: usize>(replays: &mut Replays, replay: ReplayId, keys: [&str; N]) {
        let marker = replays.marker();
        let found = (1..).zip(keys).map(|(id, key)| marker.found(&letter(id, key))).collect();
        replays.add(replay, found);
    }

    fn ids(found: &[Found]) -> Vec<u128> {
        found.iter().map(|found| found.id.get()).collect()
    }

    fn next(replays: &mut Replays, most: usize) -> Option<(u128, Vec<u128>, usize)> {
        let page = replays.next(most)?;
        Some((page.replay.get(), ids(&page.letters), page.left_out))
    }

    /// Claims the next page of letters with these keys, and leaves out letters. Returns the handled letters, the
    /// released letters, and the number of letters left out.
    fn claim(
        replays: &mut Replays,
        most: usize,
        keys: &[&str],
        left: &[u128],
        gone: &[u128],
    ) -> (Vec<u128>, Vec<u128>, usize) {
        let page = replays.next(most).unwrap();
        let is_there = |id: &u128| !left.contains(id) && !gone.contains(id);
        let there = ids(&page.letters).into_iter().filter(is_there);
        let letters = there.map(|id| letter(id, keys[id as usize - 1])).collect();
        let left: Vec<_> = left.iter().copied().map(LetterId::new).collect();
        let claimed = replays.claimed(page.replay, &page.letters, letters, &left);
        let handled = claimed.handle.iter().map(|letter| letter.id.get()).collect();
        let released = claimed.release.iter().map(|replay| replay.letter.get()).collect();
        assert!(claimed.release.iter().all(|released| released.id == page.replay));
        (handled, released, claimed.left_out)
    }

    #[test]
    fn all_pages_of_a_replay_have_its_id() {
        let mut replays = replays(true, ["a"; 5]);
        add(&mut replays, ReplayId::new(2), ["a"]);
        add(&mut replays, ReplayId::new(3), []);
        for expected in [(1, vec![1, 2], 0), (1, vec![3, 4], 0), (1, vec![5], 0), (2, vec![1], 0)] {
            assert_eq!(next(&mut replays, 2), Some(expected));
        }
        assert_eq!(next(&mut replays, 2), None);
        add(&mut replays, ONE, ["a"]);
        replays.clear();
        assert_eq!(next(&mut replays, 2), None);
    }

    #[test]
    fn a_replay_stops_at_a_key_of_which_a_letter_was_left_out() {
        let keys = ["a", "b", "a", "", "b", "a", ""];
        let mut replays = replays(true, keys);
        assert_eq!(claim(&mut replays, 2, &keys, &[1], &[]), (vec![2], vec![], 1));
        assert_eq!(next(&mut replays, 2), Some((1, vec![4, 5], 1)), "3 is left out too");
        assert_eq!(next(&mut replays, 2), Some((1, vec![7], 1)));
        add(&mut replays, ReplayId::new(2), ["a"]);
        assert_eq!(next(&mut replays, 2), Some((2, vec![1], 0)), "another replay begins again");
    }

    #[test]
    fn later_letters_of_a_page_are_released() {
        let keys = ["a", "b", "a", "b", "a"];
        let mut all = replays(true, keys);
        assert_eq!(claim(&mut all, 9, &keys, &[1], &[]), (vec![2, 4], vec![3, 5], 3));
        assert_eq!(next(&mut all, 9), None);
        let mut all = replays(true, keys);
        assert_eq!(claim(&mut all, 9, &keys, &[3, 4, 5], &[]), (vec![1, 2], vec![], 3));
    }

    #[test]
    fn a_letter_that_was_removed_stops_no_key() {
        let keys = ["a", "a", "b", "a"];
        let mut replays = replays(true, keys);
        assert_eq!(claim(&mut replays, 3, &keys, &[], &[1, 3]), (vec![2], vec![], 0));
        assert_eq!(next(&mut replays, 3), Some((1, vec![4], 0)));
    }

    #[test]
    fn a_replay_stops_at_a_key_while_it_claims_its_letters() {
        let mut replays = replays(true, ["a", "b", "a"]);
        let page = replays.next(2).unwrap();
        replays.stop(ONE, "a");
        replays.stop(ReplayId::new(9), "b");
        let letters = vec![letter(1, "a"), letter(2, "b")];
        let claimed = replays.claimed(ONE, &page.letters, letters, &[]);
        assert_eq!(claimed.handle, [letter(2, "b")]);
        assert_eq!(claimed.release, [Replay::new(ONE, LetterId::new(1))]);
        assert_eq!(next(&mut replays, 9), Some((1, vec![], 1)), "a page may be empty");
        assert_eq!(next(&mut replays, 9), None);
    }

    #[test]
    fn letters_without_an_order_stop_nothing() {
        for (by_key, key) in [(true, ""), (false, "a")] {
            let keys = [key; 3];
            let mut replays = replays(by_key, keys);
            assert_eq!(claim(&mut replays, 2, &keys, &[1], &[]), (vec![2], vec![], 1));
            replays.stop(ONE, key);
            assert_eq!(next(&mut replays, 9), Some((1, vec![3], 0)));
        }
    }

    #[test]
    fn due_letters_are_handled() {
        let mut replays = Replays::new(true);
        let due = vec![letter(1, "a"), letter(2, "a")];
        let claimed = replays.claimed(ReplayId::new(5), &[], due.clone(), &[]);
        assert_eq!(claimed, Claimed { handle: due, release: vec![], left_out: 0 });
    }

    #[test]
    fn each_replay_is_warned_of_once() {
        let mut replays = Replays::new(true);
        for id in 0..200 {
            assert!(replays.leaves_out(ReplayId::new(id)));
            assert!(!replays.leaves_out(ReplayId::new(id)));
        }
        assert!(!replays.leaves_out(ReplayId::new(199 - 63)));
        assert!(replays.leaving_out.len() <= REMEMBERED);
    }
}
