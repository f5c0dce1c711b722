//! The scope with the most results, and its oldest result. That result is evicted first, so that no
//! scope can displace the results of another by storing many.

use std::collections::HashMap;

use super::NONE;
use super::links::Ends;

/// The results of each scope, from the oldest to the newest, and the scopes by their number of
/// results. Every operation takes constant time.
///
/// A result is named by its place in the table.
#[derive(Default)]
pub(super) struct Scopes {
    /// By name, with the secret hasher of the standard library, because callers choose names.
    places: HashMap<Box<str>, u32>,
    scopes: Vec<Scope>,
    free: Vec<u32>,
    /// The scopes with `n + 1` results are in group `n`.
    groups: Vec<Ends>,
    /// A link for each place of the table that holds a result.
    results: Vec<Link>,
}

struct Scope {
    name: Box<str>,
    results: Ends,
    len: usize,
    /// The neighbours among the scopes with the same number of results.
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy)]
struct Link {
    /// `NONE` for a place without a result.
    scope: u32,
    newer: u32,
    older: u32,
}

const UNLINKED: Link = Link { scope: NONE, newer: NONE, older: NONE };

impl Scope {
    const fn neighbours(&mut self) -> (&mut u32, &mut u32) {
        (&mut self.newer, &mut self.older)
    }
}

impl Link {
    const fn neighbours(&mut self) -> (&mut u32, &mut u32) {
        (&mut self.newer, &mut self.older)
    }
}

impl Scopes {
    /// Adds the result at `place` as the newest of the scope called `name`.
    pub(super) fn enter(&mut self, place: u32, name: &str) {
        let scope = self.scope(name);
        let Some(Scope { results: ends, .. }) = self.scopes.get_mut(scope as usize) else { return };
        let index = place as usize;
        if index >= self.results.len() {
            self.results.resize(index + 1, UNLINKED);
        }
        if let Some(link) = self.results.get_mut(index) {
            link.scope = scope;
        }
        ends.push(&mut self.results, place, Link::neighbours);
        self.resize(scope, 1);
    }

    /// Removes the result at `place` from its scope, if there is one.
    pub(super) fn leave(&mut self, place: u32) {
        let Some(link) = self.results.get_mut(place as usize) else { return };
        let Link { scope, newer, older } = std::mem::replace(link, UNLINKED);
        let Some(Scope { results: ends, .. }) = self.scopes.get_mut(scope as usize) else { return };
        ends.unlink(&mut self.results, (newer, older), Link::neighbours);
        self.resize(scope, -1);
    }

    /// Returns the oldest result of the scope with the most results. Among several, it is the scope
    /// that has had so many for the longest time.
    pub(super) fn evictable(&self) -> Option<u32> {
        let largest = self.groups.last()?;
        let scope = self.scopes.get(largest.oldest as usize)?;
        Some(scope.results.oldest)
    }

    fn scope(&mut self, name: &str) -> u32 {
        if let Some(scope) = self.places.get(name) {
            return *scope;
        }
        let fresh =
            Scope { name: name.into(), results: Ends::EMPTY, len: 0, newer: NONE, older: NONE };
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.scopes.len() as u32,
        };
        match self.scopes.get_mut(place as usize) {
            Some(scope) => *scope = fresh,
            None => self.scopes.push(fresh),
        }
        self.places.insert(name.into(), place);
        place
    }

    /// Changes the number of a scope's results by `by`. A scope without results is removed.
    fn resize(&mut self, place: u32, by: isize) {
        let Some(scope) = self.scopes.get_mut(place as usize) else { return };
        let before = scope.len;
        scope.len = before.saturating_add_signed(by);
        let after = scope.len;
        self.leave_group(place, before);
        if after > 0 {
            self.join_group(place, after);
        } else if let Some(scope) = self.scopes.get_mut(place as usize) {
            let name = std::mem::take(&mut scope.name);
            self.places.remove(&name);
            self.free.push(place);
        }
        while self.groups.last().is_some_and(|group| group.newest == NONE) {
            self.groups.pop();
        }
    }

    fn leave_group(&mut self, place: u32, len: usize) {
        let Some(group) = len.checked_sub(1) else { return };
        let Some(scope) = self.scopes.get(place as usize) else { return };
        let neighbours = (scope.newer, scope.older);
        if let Some(group) = self.groups.get_mut(group) {
            group.unlink(&mut self.scopes, neighbours, Scope::neighbours);
        }
    }

    fn join_group(&mut self, place: u32, len: usize) {
        if self.groups.len() < len {
            self.groups.resize(len, Ends::EMPTY);
        }
        if let Some(group) = self.groups.get_mut(len - 1) {
            group.push(&mut self.scopes, place, Scope::neighbours);
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::vocabulary::rng::Rng;

    /// Scopes with their results, oldest first, in the order in which they reached their number of
    /// results.
    #[derive(Default)]
    struct Model(Vec<(String, Vec<u32>)>);

    impl Model {
        fn moved(&mut self, name: &str, change: impl FnOnce(&mut Vec<u32>)) {
            let known = self.0.iter().position(|(known, _)| known == name);
            let (name, mut results) =
                known.map_or_else(|| (name.to_owned(), Vec::new()), |known| self.0.remove(known));
            change(&mut results);
            if !results.is_empty() {
                self.0.push((name, results));
            }
        }

        fn evictable(&self) -> Option<u32> {
            let most = self.0.iter().map(|(_, results)| results.len()).max()?;
            let (_, results) = self.0.iter().find(|(_, results)| results.len() == most)?;
            results.first().copied()
        }
    }

    #[test]
    fn a_random_walk_agrees_with_a_model() {
        let rng = Rng::seeded(7);
        let draw = |below: u64| rng.next_u64() % below;
        let (mut scopes, mut model) = (Scopes::default(), Model::default());
        let mut held: Vec<(u32, String)> = Vec::new();
        for _ in 0..20_000 {
            if draw(5) < 3 {
                let place = (0..).find(|place| held.iter().all(|(held, _)| held != place)).unwrap();
                // The first scopes get the most results.
                let name = format!("s{}", draw(8).min(draw(8)));
                scopes.enter(place, &name);
                model.moved(&name, |results| results.push(place));
                held.push((place, name));
            } else if let Some(index) = (!held.is_empty()).then(|| draw(held.len() as u64)) {
                let (place, name) = held.swap_remove(index as usize);
                scopes.leave(place);
                model.moved(&name, |results| results.retain(|held| *held != place));
            }
            if held.len() > 60 {
                let evicted = scopes.evictable().unwrap();
                let index = held.iter().position(|(place, _)| *place == evicted).unwrap();
                let (place, name) = held.swap_remove(index);
                scopes.leave(place);
                model.moved(&name, |results| results.retain(|held| *held != place));
            }
            assert_eq!(scopes.evictable(), model.evictable());
            assert_eq!(scopes.places.len(), model.0.len(), "an empty scope is forgotten");
        }
    }

    #[test]
    fn leaving_twice_or_unknown_changes_nothing() {
        let mut scopes = Scopes::default();
        scopes.leave(3);
        scopes.enter(0, "a");
        scopes.leave(0);
        scopes.leave(0);
        assert_eq!(scopes.evictable(), None);
        scopes.enter(5, "b");
        assert_eq!(scopes.evictable(), Some(5));
    }
}
