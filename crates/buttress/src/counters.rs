//! Counters that do not contend: a shard per thread, padded to its own cache lines.

use std::cell::Cell;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Shards of a set of counters. More would help machines with more busy cores and cost every idle
/// instance 128 bytes each.
const SHARDS: usize = 8;

/// `N` counters that only grow. `N` is at most 8 by habit, so that a shard is one cache line.
#[derive(Debug)]
pub(crate) struct Counters<const N: usize> {
    shards: [Shard<N>; SHARDS],
}

/// 128 bytes, because x86 fetches cache lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    pub(crate) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Shard(std::array::from_fn(|_| AtomicU64::new(0)))) }
    }

    /// Adds one to counter `which`; nothing if there is no such counter.
    #[inline]
    pub(crate) fn add(&self, which: usize) {
        self.add_many(which, 1);
    }

    #[inline]
    pub(crate) fn add_many(&self, which: usize, many: u64) {
        if let Some(counter) = self.shards.get(shard()).and_then(|shard| shard.0.get(which)) {
            counter.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// The sum of counter `which` over all threads. Counts that race with it may be missing.
    pub(crate) fn sum(&self, which: usize) -> u64 {
        self.each(which).map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// Takes the sum of counter `which`, leaving zero.
    pub(crate) fn take(&self, which: usize) -> u64 {
        self.each(which).map(|counter| counter.swap(0, Ordering::Relaxed)).sum()
    }

    fn each(&self, which: usize) -> impl Iterator<Item = &AtomicU64> {
        self.shards.iter().filter_map(move |shard| shard.0.get(which))
    }
}

/// This thread's shard, handed out in turn.
#[inline]
fn shard() -> usize {
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        let known = shard.get();
        if known < SHARDS {
            return known;
        }
        first_shard(shard)
    })
}

#[cold]
fn first_shard(shard: &Cell<usize>) -> usize {
    let fresh = next_shard() % SHARDS;
    shard.set(fresh);
    fresh
}

#[cfg(not(buttress_loom))]
fn next_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(buttress_loom)]
fn next_shard() -> usize {
    let _unused: Option<AtomicUsize> = None;
    0
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::<2>::new();
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| (0..1000).for_each(|_| counters.add(1)));
            }
        });
        assert_eq!((counters.sum(0), counters.sum(1)), (0, 10_000));
        assert_eq!(counters.take(1), 10_000);
        assert_eq!(counters.sum(1), 0);
    }
}
