//! Counters without contention: each thread uses a shard, padded to its own cache lines.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Shards of a set of counters. More shards would help machines with more busy cores, and cost
/// every instance 128 bytes each.
const SHARDS: usize = 8;

/// Names one counter of a set: an enum made by [`counters!`], so every name has a counter.
pub(crate) trait Which: Copy {
    fn place(self) -> usize;
}

/// Makes an enum of counters. `COUNT` is their number.
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $counter:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $name {
            $($(#[$doc])* $counter,)+
        }

        impl $name {
            /// The number of counters.
            $vis const COUNT: usize = [$(Self::$counter),+].len();
        }

        impl $crate::machinery::counters::Which for $name {
            #[inline(always)]
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use counters;

/// A set of `N` counters that only grow, named by `W`. `N` is at most 16, so that a shard is one
/// pair of cache lines.
pub(crate) struct Counters<const N: usize, W> {
    shards: [Shard<N>; SHARDS],
    which: PhantomData<W>,
}

impl<const N: usize, W> fmt::Debug for Counters<N, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("shards", &self.shards).finish()
    }
}

/// 128 bytes, because x86 fetches cache lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<const N: usize>([AtomicU64; N]);

impl<const N: usize, W: Which> Counters<N, W> {
    pub(crate) fn new() -> Self {
        let shard = || Shard(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { shards: std::array::from_fn(|_| shard()), which: PhantomData }
    }

    /// Adds one to counter `which`. Does nothing if the counter does not exist.
    #[inline]
    pub(crate) fn add(&self, which: W) {
        self.add_many(which, 1);
    }

    #[inline]
    pub(crate) fn add_many(&self, which: W, many: u64) {
        if let Some(counter) = self.shards.get(shard()).and_then(|shard| shard.0.get(which.place()))
        {
            counter.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// Returns the sum of counter `which` over all threads. Concurrent additions may be missing.
    pub(crate) fn sum(&self, which: W) -> u64 {
        self.each(which).map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// Returns the sum of counter `which`, and sets the counter to zero.
    pub(crate) fn take(&self, which: W) -> u64 {
        self.each(which).map(|counter| counter.swap(0, Ordering::Relaxed)).sum()
    }

    fn each(&self, which: W) -> impl Iterator<Item = &AtomicU64> {
        self.shards.iter().filter_map(move |shard| shard.0.get(which.place()))
    }
}

/// Returns the shard of this thread. Threads get shards in turn.
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

    counters! {
        enum Fruit {
            Apples,
            Pears,
        }
    }

    #[test]
    fn an_enum_has_a_counter_for_each_of_its_values() {
        let counters = Counters::<{ Fruit::COUNT }, Fruit>::new();
        counters.add(Fruit::Pears);
        counters.add_many(Fruit::Apples, 2);
        assert_eq!((counters.sum(Fruit::Apples), counters.sum(Fruit::Pears)), (2, 1));
    }

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::<{ Fruit::COUNT }, Fruit>::new();
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| (0..1000).for_each(|_| counters.add(Fruit::Pears)));
            }
        });
        assert_eq!((counters.sum(Fruit::Apples), counters.sum(Fruit::Pears)), (0, 10_000));
        assert_eq!(counters.take(Fruit::Pears), 10_000);
        assert_eq!(counters.sum(Fruit::Pears), 0);
    }
}
