//! A bounded map of states by key, with constant time per operation.
//!
//! Entries are in order of use. At the cap, a new key takes the place of a long unused key that is
//! *at rest*. The owner defines this so that forgetting the key loses nothing: a full bucket, a
//! closed circuit, an idle bulkhead. If none of the few oldest keys is at rest, the new key is
//! refused: forgetting a busy key would let it exceed its limit. The next search examines other
//! keys.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};
use crate::vocabulary::invalid_config::{InvalidConfig, check_range};

/// The map is split into shards above this number of keys, so that threads rarely contend for a
/// lock.
const SMALL: usize = 1024;
const SHARDS: usize = 16;
/// How many of the oldest entries of a shard are examined in a search for one at rest.
const LOOKS: usize = 64;

/// Checks how many keys a keyed layer may hold. Their places are numbered in 32 bits.
pub(crate) fn check_max_keys(max_keys: usize) -> Result<(), InvalidConfig> {
    check_range("max-keys", max_keys, 1, 1 << 31)
}

/// Error: no place for another key.
#[derive(Debug)]
pub(crate) struct Full;

/// A map with `C` as the context of all values of a shard. The context changes together with them.
pub(crate) struct KeyMap<K, V, C = ()> {
    shards: Box<[Mutex<Shard<K, V, C>>]>,
    hasher: RandomState,
    max_keys: usize,
    keys: AtomicUsize,
}

struct Shard<K, V, C> {
    context: C,
    /// The place of the first entry with this hash. Further entries with the hash follow from
    /// there. The key is half a hash, which few entries share and which saves memory.
    places: HashMap<u32, u32, BuildHasherDefault<PassThrough>>,
    entries: Vec<Entry<K, V>>,
    /// The most and the least recently used entry.
    newest: u32,
    oldest: u32,
}

struct Entry<K, V> {
    key: K,
    hash: u32,
    /// The next entry with the same hash.
    same: u32,
    value: V,
    newer: u32,
    older: u32,
}

/// The value for "no entry".
const NONE: u32 = u32::MAX;

/// A hasher of values that are hashes already. A key is hashed once, before any lock, for shard and
/// place.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write(&mut self, bytes: &[u8]) {
        // Only words are written. Other values would still give a valid hash.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn write_u32(&mut self, hash: u32) {
        // The map uses both ends of a hash.
        self.0 = u64::from(hash) << 32 | u64::from(hash);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl<K, V, C> KeyMap<K, V, C> {
    /// Returns how many keys are held.
    pub(crate) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    pub(crate) fn max_keys(&self) -> usize {
        self.max_keys
    }
}

impl<K: Hash + Eq + Clone, V, C: Clone> KeyMap<K, V, C> {
    pub(crate) fn new(max_keys: usize, context: C) -> Self {
        let shards = if max_keys > SMALL { SHARDS } else { 1 };
        let shard = || {
            let (places, entries) = (HashMap::default(), Vec::new());
            Mutex::new(Shard {
                context: context.clone(),
                places,
                entries,
                newest: NONE,
                oldest: NONE,
            })
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            max_keys,
            keys: AtomicUsize::new(0),
        }
    }

    /// Runs `f` on the value of `key`. `make` makes the value if the key is new and there is a
    /// place for it.
    pub(crate) fn with<T>(
        &self,
        key: &K,
        make: impl FnOnce(&C) -> V,
        at_rest: impl Fn(&C, &V) -> bool,
        f: impl FnOnce(&C, &mut V) -> T,
    ) -> Result<T, Full> {
        let (home, hash) = self.home(key);
        let Some(shard) = self.shards.get(home) else { return Err(Full) };
        let mut locked = lock(shard);
        if let Some(place) = locked.find(hash, key) {
            return locked.touch(place).map(|(context, value)| f(context, value)).ok_or(Full);
        }
        // Dropped after every lock is released, because a value may hold parts of the caller.
        let mut _evicted = None;
        // The clone runs code of the user, so it comes before any count.
        let copy = key.clone();
        if !self.count_one_more() {
            _evicted = locked.evict(&at_rest);
            if _evicted.is_none() {
                drop(locked);
                _evicted = Some(self.evict_elsewhere(home, &at_rest).ok_or(Full)?);
                locked = lock(shard);
            }
        }
        let place = match locked.find(hash, key) {
            Some(place) => {
                // Another thread was faster. The counted place is not needed.
                self.keys.fetch_sub(1, Ordering::Relaxed);
                place
            }
            None => {
                let value = make(&locked.context);
                locked.insert(hash, copy, value)
            }
        };
        let used = locked.touch(place).map(|(context, value)| f(context, value));
        drop(locked);
        used.ok_or(Full)
    }

    /// Runs `f` on the value of `key` if it is held. This does not count as a use.
    pub(crate) fn peek<T>(&self, key: &K, f: impl FnOnce(&C, &mut V) -> T) -> Option<T> {
        let (home, hash) = self.home(key);
        let mut shard = lock(self.shards.get(home)?);
        let place = shard.find(hash, key)? as usize;
        let Shard { context, entries, .. } = &mut *shard;
        Some(f(context, &mut entries.get_mut(place)?.value))
    }

    /// Changes the context and every value, one shard after another.
    pub(crate) fn change(&self, context: &C, mut f: impl FnMut(&C, &mut V)) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { context: old, entries, .. } = &mut *shard;
            entries.iter_mut().for_each(|entry| f(old, &mut entry.value));
            *old = context.clone();
        }
    }

    /// Returns the shard of `key`, and the part of its hash that the shard uses.
    #[inline]
    fn home(&self, key: &K) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        // The number of shards is a power of two.
        ((hash >> 32) as usize & (self.shards.len() - 1), hash as u32)
    }

    /// Counts one more key, and returns `true`, unless the map is full.
    fn count_one_more(&self) -> bool {
        let below = |keys| (keys < self.max_keys).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    /// Removes an entry of another shard than `home`. The caller holds no lock.
    fn evict_elsewhere(&self, home: usize, at_rest: &impl Fn(&C, &V) -> bool) -> Option<(K, V)> {
        let others = self.shards.iter().cycle().skip(home + 1).take(self.shards.len() - 1);
        others.map(|shard| lock(shard).evict(at_rest)).find_map(|evicted| evicted)
    }
}

impl<K: Hash + Eq + Clone, V, C> Shard<K, V, C> {
    /// Returns the place of `key`.
    #[inline]
    fn find(&self, hash: u32, key: &K) -> Option<u32> {
        let mut place = *self.places.get(&hash)?;
        loop {
            let entry = self.entries.get(place as usize)?;
            if entry.key == *key {
                return Some(place);
            }
            place = entry.same;
        }
    }

    /// Returns the value at `place`, which becomes the most recently used.
    #[inline]
    fn touch(&mut self, place: u32) -> Option<(&C, &mut V)> {
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
        let entry = self.entries.get_mut(place as usize)?;
        Some((&self.context, &mut entry.value))
    }

    fn insert(&mut self, hash: u32, key: K, value: V) -> u32 {
        let place = self.entries.len() as u32;
        let same = self.places.insert(hash, place).unwrap_or(NONE);
        self.entries.push(Entry { key, hash, same, value, newer: NONE, older: NONE });
        self.link_newest(place);
        place
    }

    /// Removes the oldest entry at rest, if one of the few oldest entries is. The examined entries
    /// that are not at rest move to the other end, so that the next search examines others.
    fn evict(&mut self, at_rest: impl Fn(&C, &V) -> bool) -> Option<(K, V)> {
        for _ in 0..LOOKS.min(self.entries.len()) {
            let place = self.oldest;
            let entry = self.entries.get(place as usize)?;
            if at_rest(&self.context, &entry.value) {
                return self.remove(place);
            }
            self.unlink(place);
            self.link_newest(place);
        }
        None
    }

    fn remove(&mut self, place: u32) -> Option<(K, V)> {
        self.unlink(place);
        let entry = self.entries.get(place as usize)?;
        let (hash, same) = (entry.hash, entry.same);
        self.redirect(hash, place, same);
        let last = self.entries.len().checked_sub(1)? as u32;
        if place != last {
            // The last entry moves into the gap.
            let moved = self.entries.get(last as usize)?;
            let (hash, newer, older) = (moved.hash, moved.newer, moved.older);
            self.redirect(hash, last, place);
            self.set_older(newer, place);
            self.set_newer(older, place);
        }
        let Entry { key, value, .. } = self.entries.swap_remove(place as usize);
        Some((key, value))
    }

    /// Replaces the link to `from` among the entries of `hash` by a link to `to`.
    fn redirect(&mut self, hash: u32, from: u32, to: u32) {
        let Some(first) = self.places.get_mut(&hash) else { return };
        if *first == from {
            if to == NONE {
                self.places.remove(&hash);
            } else {
                *first = to;
            }
            return;
        }
        let mut place = *first;
        while let Some(entry) = self.entries.get_mut(place as usize) {
            if entry.same == from {
                entry.same = to;
                return;
            }
            place = entry.same;
        }
    }

    fn unlink(&mut self, place: u32) {
        let Some(entry) = self.entries.get(place as usize) else { return };
        let (newer, older) = (entry.newer, entry.older);
        self.set_older(newer, older);
        self.set_newer(older, newer);
    }

    fn link_newest(&mut self, place: u32) {
        let second = self.newest;
        if let Some(entry) = self.entries.get_mut(place as usize) {
            entry.newer = NONE;
            entry.older = second;
        }
        self.set_newer(second, place);
        self.newest = place;
    }

    /// Sets the older neighbour of `place`. For `NONE`, sets the head of the list.
    fn set_older(&mut self, place: u32, older: u32) {
        match self.entries.get_mut(place as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Sets the newer neighbour of `place`. For `NONE`, sets the tail of the list.
    fn set_newer(&mut self, place: u32, newer: u32) {
        match self.entries.get_mut(place as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

impl<K, V, C> fmt::Debug for KeyMap<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMap")
            .field("keys", &self.keys.load(Ordering::Relaxed))
            .field("max_keys", &self.max_keys)
            .finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "key_map/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "key_map/loom_tests.rs"]
mod loom_tests;
