//! [`VirtualClock`]: a clock that moves only by calls, in whole nanoseconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Clock;

/// A clock that stands still until a caller moves it: for simulations, and for tests with a
/// database, whose driver a paused tokio clock would time out.
///
/// It counts in nanoseconds, whereas tokio's paused clock rounds every deadline up to a
/// millisecond. Timers fire in the order of their deadlines. Timers with one deadline fire in the
/// order of their first poll. Clones share one clock.
///
/// ```
/// use std::time::Duration;
/// use buttress::VirtualClock;
///
/// let time = VirtualClock::new();
/// let clock = time.clock(); // goes into a layer's `Config`
/// let start = clock.now();
/// time.advance(Duration::from_nanos(1_200_001));
/// assert_eq!(clock.now() - start, Duration::from_nanos(1_200_001));
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    node: Arc<Node>,
}

/// One machine's view of the time. All nodes share `now`; each node has its own wall clock.
pub(super) struct Node {
    time: Arc<Time>,
    /// How far the wall clock of this node is ahead, in nanoseconds.
    skew: AtomicI64,
}

struct Time {
    /// The instant of nanosecond 0. Only this value comes from the real clock.
    anchor: Instant,
    /// The wall time of nanosecond 0.
    unix: Duration,
    nanos: AtomicU64,
    /// Guards the heap and the wakers. This lock is released before a waker is woken, cloned or
    /// dropped. Exception: `register` clones the new waker and drops the waker that it replaces.
    timers: Mutex<Timers>,
}

#[derive(Default)]
struct Timers {
    /// Deadline, registration number and slot. Entries whose slot has another registration are
    /// skipped.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    registered: u64,
    /// How many entries of the heap will be skipped.
    stale: usize,
}

struct Slot {
    /// The registration that holds this slot. A later registration has another number.
    number: u64,
    waker: Option<Waker>,
}

impl VirtualClock {
    /// Creates a clock whose wall time begins with the year 2024.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(Duration::from_secs(1_704_067_200))
    }

    /// Creates a clock whose wall time begins at `unix`, counted from 1970 in UTC.
    #[must_use]
    pub fn starting_at(unix: Duration) -> Self {
        let time = Time {
            anchor: Instant::now(),
            unix,
            nanos: AtomicU64::new(0),
            timers: Mutex::default(),
        };
        Self { node: Arc::new(Node { time: Arc::new(time), skew: AtomicI64::new(0) }) }
    }

    /// Returns a [`Clock`] for a layer's `Config`. It reads this virtual clock and waits on it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::of_node(self.node.clone())
    }

    /// Returns the clock of another machine, with the same time and its own wall clock.
    #[must_use]
    pub fn node(&self) -> Self {
        let time = self.node.time.clone();
        Self { node: Arc::new(Node { time, skew: AtomicI64::new(0) }) }
    }

    /// Returns whether `node` reads this time. Its wall clock may differ.
    pub(super) fn has_time_of(&self, node: &Node) -> bool {
        Arc::ptr_eq(&self.node.time, &node.time)
    }

    /// Sets how far the wall clock of this node is wrong, in nanoseconds: ahead if positive.
    /// Instants and timers do not change.
    pub fn set_skew(&self, nanos: i64) {
        self.node.skew.store(nanos, Ordering::Relaxed);
    }

    /// Returns the time since the creation of the clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.node.time.nanos())
    }

    /// Returns how many timers are registered and have not fired.
    #[must_use]
    pub fn timers(&self) -> usize {
        let timers = self.node.time.lock();
        timers.heap.len() - timers.stale
    }

    /// Returns when the next timer fires, counted like [`elapsed`](Self::elapsed). `None` if no
    /// timer is registered.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.node.time.lock().first().map(|(deadline, _)| Duration::from_nanos(deadline))
    }

    /// Moves the time to the next deadline and adds the wakers of its timers to `wakers`, in the
    /// order of their registration. A deadline that has passed does not move the time. Returns
    /// `false` if no timer is registered.
    ///
    /// Executors call it. To move the time in a test use [`advance`](Self::advance).
    pub fn fire_next(&self, wakers: &mut Vec<Waker>) -> bool {
        let time = &self.node.time;
        let mut timers = time.lock();
        let Some((deadline, _)) = timers.first() else { return false };
        // No other thread writes: this one holds the lock.
        time.nanos.store(time.nanos().max(deadline), Ordering::Relaxed);
        timers.take_until(deadline, wakers);
        true
    }

    /// Moves the time by `by`, and wakes the timers whose deadline has come, in the order of the
    /// deadlines.
    ///
    /// Tasks do not run between two deadlines. When they run, they see the time after the whole
    /// step.
    pub fn advance(&self, by: Duration) {
        let time = &self.node.time;
        let to = time.nanos().saturating_add(super::to_nanos(by));
        let mut wakers = Vec::new();
        let mut timers = time.lock();
        time.nanos.fetch_max(to, Ordering::Relaxed);
        timers.take_until(to, &mut wakers);
        drop(timers);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock")
            .field("elapsed", &self.elapsed())
            .field("timers", &self.timers())
            .finish()
    }
}

impl Node {
    #[inline]
    pub(super) fn now(&self) -> Instant {
        super::after(self.time.anchor, Duration::from_nanos(self.time.nanos()))
    }

    pub(super) fn unix(&self) -> Duration {
        let unix = self.time.unix + Duration::from_nanos(self.time.nanos());
        let skew = self.skew.load(Ordering::Relaxed);
        let by = Duration::from_nanos(skew.unsigned_abs());
        if skew < 0 { unix.saturating_sub(by) } else { unix.saturating_add(by) }
    }

    pub(super) fn timer(self: &Arc<Self>, deadline: Instant) -> Timer {
        let deadline = super::nanos_since(self.time.anchor, deadline);
        Timer { time: self.time.clone(), deadline, registration: None }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("nanos", &self.time.nanos()).finish_non_exhaustive()
    }
}

impl Time {
    #[inline]
    fn nanos(&self) -> u64 {
        // The lock that hands a waker over orders the writes before it.
        self.nanos.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A deadline of a [`VirtualClock`]. It is registered at its first poll and cancelled when dropped.
pub(super) struct Timer {
    time: Arc<Time>,
    deadline: u64,
    /// Slot and number of the registration.
    registration: Option<(u32, u64)>,
}

impl Timer {
    pub(super) fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = super::nanos_since(self.time.anchor, deadline);
    }

    /// Returns `true` if the deadline has come. If not, `waker` is woken at the deadline.
    #[inline]
    pub(super) fn poll(&mut self, waker: &Waker) -> bool {
        if self.time.nanos() >= self.deadline {
            self.cancel();
            return true;
        }
        let mut timers = self.time.lock();
        // The deadline may have come between the check and the lock. The thread that moved the time
        // saw no registration then.
        if self.time.nanos() >= self.deadline {
            drop(timers);
            self.cancel();
            return true;
        }
        self.registration = Some(timers.register(self.deadline, self.registration, waker));
        false
    }

    fn cancel(&mut self) {
        let Some((slot, number)) = self.registration.take() else { return };
        // Once the deadline has come, the thread that moved the time takes the registration.
        if self.time.nanos() < self.deadline {
            let waker = self.time.lock().remove(slot, number);
            drop(waker);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Timers {
    /// Registers a timer, or replaces the waker of a registration that is still valid.
    fn register(&mut self, deadline: u64, old: Option<(u32, u64)>, waker: &Waker) -> (u32, u64) {
        if let Some((slot, number)) = old {
            let known = self.slots.get_mut(slot as usize).filter(|known| known.number == number);
            if let Some(known) = known.and_then(|known| known.waker.as_mut()) {
                known.clone_from(waker);
                return (slot, number);
            }
        }
        self.registered += 1;
        let number = self.registered;
        let filled = Slot { number, waker: Some(waker.clone()) };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.slots.len() as u32,
        };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = filled,
            None => self.slots.push(filled),
        }
        self.heap.push(Reverse((deadline, number, slot)));
        (slot, number)
    }

    fn remove(&mut self, slot: u32, number: u64) -> Option<Waker> {
        let place = self.slots.get_mut(slot as usize)?;
        if place.number != number {
            return None;
        }
        let waker = place.waker.take()?;
        self.free.push(slot);
        self.stale += 1;
        // Timers that are cancelled long before their deadline (time limits) must not accumulate.
        if self.stale > 64 && self.stale > self.heap.len() / 2 {
            let slots = &self.slots;
            self.heap.retain(|Reverse((_, number, slot))| holds(slots, *slot, *number));
            self.stale = 0;
        }
        Some(waker)
    }

    /// Returns deadline and number of the first timer that is still registered.
    fn first(&mut self) -> Option<(u64, u64)> {
        while let Some(Reverse((deadline, number, slot))) = self.heap.peek().copied() {
            if holds(&self.slots, slot, number) {
                return Some((deadline, number));
            }
            self.heap.pop();
            self.stale -= 1;
        }
        None
    }

    /// Takes the wakers of all timers up to `deadline`, in order.
    fn take_until(&mut self, deadline: u64, wakers: &mut Vec<Waker>) {
        while let Some(Reverse((at, number, slot))) = self.heap.peek().copied() {
            if at > deadline {
                break;
            }
            self.heap.pop();
            let place = self.slots.get_mut(slot as usize).filter(|place| place.number == number);
            match place.and_then(|place| place.waker.take()) {
                Some(waker) => {
                    self.free.push(slot);
                    wakers.push(waker);
                }
                None => self.stale -= 1,
            }
        }
    }
}

fn holds(slots: &[Slot], slot: u32, number: u64) -> bool {
    slots.get(slot as usize).is_some_and(|slot| slot.number == number && slot.waker.is_some())
}

#[cfg(test)]
#[path = "virtual_clock/tests.rs"]
mod tests;
