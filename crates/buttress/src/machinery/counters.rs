//! Counters without contention: each thread uses a shard, padded to its own cache lines.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
#[cfg(not(buttress_loom))]
use std::{num::NonZero, sync::OnceLock};

use crate::sync::{AtomicU64, Ordering};

/// The most shards of a set of counters. More shards would help machines with more busy cores, and
/// cost every instance 128 bytes each.
#[cfg(not(buttress_loom))]
const MOST_SHARDS: usize = 8;

/// The most counters of a set: as many as fit into a shard.
pub(crate) const MOST: usize = 16;

/// Names one counter of a set: an enum made by [`counters!`], so every name has a counter.
pub(crate) trait Which: Copy {
    fn place(self) -> usize;
}

/// Makes an enum of counters.
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $counter:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $name {
            $($(#[$doc])* $counter,)+
        }

        const _: () = assert!(
            [$($name::$counter),+].len() <= $crate::machinery::counters::MOST,
            "a shard has too few places"
        );

        impl $crate::machinery::counters::Which for $name {
            #[inline(always)]
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use counters;

/// A set of counters that only grow, named by `W`.
pub(crate) struct Counters<W> {
    shards: Shards,
    which: PhantomData<W>,
}

impl<W> fmt::Debug for Counters<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("shards", &self.shards.0).finish()
    }
}

/// A shard for each thread that the machine can run, and at most [`MOST_SHARDS`].
struct Shards(Box<[Shard]>);

/// 128 bytes, because x86 fetches cache lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; MOST]);

thread_local! {
    /// The index of this thread's shard in every set. Out of range until the first addition.
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl<W: Which> Counters<W> {
    pub(crate) fn new() -> Self {
        Self { shards: Shards::new(), which: PhantomData }
    }

    /// Adds one to counter `which`. Does nothing if the counter does not exist.
    #[inline]
    pub(crate) fn add(&self, which: W) {
        self.shards.add(which.place());
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
        self.shards.0.iter().filter_map(move |shard| shard.0.get(which.place()))
    }
}

impl Shards {
    #[inline(never)]
    fn new() -> Self {
        Self((0..shard_count()).map(|_| Shard::default()).collect())
    }

    #[inline(always)]
    fn add(&self, place: usize) {
        // All sets have the same number of shards, so the index is out of range only before the
        // first addition of a thread.
        match self.0.get(SHARD.get()) {
            Some(shard) => shard.add(place),
            None => self.add_first(place),
        }
    }

    /// Gives this thread a shard, and adds to it. Threads get shards in turn.
    #[cold]
    fn add_first(&self, place: usize) {
        let index = next_shard() & self.0.len().wrapping_sub(1);
        SHARD.set(index);
        if let Some(shard) = self.0.get(index) {
            shard.add(place);
        }
    }
}

impl Shard {
    #[inline(always)]
    fn add(&self, place: usize) {
        if let Some(counter) = self.0.get(place) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns the number of shards of every set, a power of two: how many threads the machine could
/// run when the first set was made. If the processor's limits change later, threads share shards or
/// leave some unused. The sums stay correct.
#[cfg(not(buttress_loom))]
fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(MOST_SHARDS, NonZero::get);
        threads.min(MOST_SHARDS).next_power_of_two()
    })
}

#[cfg(not(buttress_loom))]
fn next_shard() -> usize {
    use crate::sync::AtomicUsize;

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A loom model has one shard, because its threads are not threads of the machine.
#[cfg(buttress_loom)]
fn shard_count() -> usize {
    1
}

#[cfg(buttress_loom)]
fn next_shard() -> usize {
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
        let counters = Counters::<Fruit>::new();
        counters.add(Fruit::Pears);
        counters.add(Fruit::Apples);
        counters.add(Fruit::Apples);
        assert_eq!((counters.sum(Fruit::Apples), counters.sum(Fruit::Pears)), (2, 1));
    }

    #[test]
    fn a_set_has_a_shard_for_each_thread_that_can_run_up_to_a_bound() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let counters = Counters::<Fruit>::new();
        assert_eq!(counters.shards.0.len(), cores.min(MOST_SHARDS).next_power_of_two());
        assert_eq!(size_of::<Shard>(), 128);
    }

    #[test]
    fn counts_of_all_threads_add_up() {
        let counters = Counters::<Fruit>::new();
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
