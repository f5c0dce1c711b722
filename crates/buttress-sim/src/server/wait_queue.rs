//! The jobs that wait, and the choice of the next.

use std::collections::VecDeque;

use super::config::{Order, Queue};

/// A waiting job: its slot, its number, and its arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub slot: u32,
    pub number: u64,
    pub since: u64,
}

/// The decision on the job whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Serve(Waiting),
    /// The job has waited for too long. The job after it is next.
    Reject(Waiting),
}

pub(super) struct WaitQueue {
    queue: Queue,
    entries: VecDeque<Waiting>,
    /// The number of waiting jobs: entries that were not cancelled.
    waiting: u32,
    codel: CoDel,
}

impl WaitQueue {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, entries: VecDeque::new(), waiting: 0, codel: CoDel::default() }
    }

    #[inline]
    pub(super) const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether one more job may wait.
    pub(super) const fn has_room(&self) -> bool {
        self.waiting < self.queue.bound
    }

    pub(super) fn push(&mut self, job: Waiting) {
        self.waiting += 1;
        self.entries.push_back(job);
    }

    /// Counts a cancelled job. Its entry is removed when its turn comes. It is removed here once
    /// most entries are cancelled, so that the bottom of a stack does not grow forever.
    pub(super) fn cancelled(&mut self, lives: impl Fn(&Waiting) -> bool) {
        self.waiting -= 1;
        if self.entries.len() > 64 && self.entries.len() / 2 > self.waiting as usize {
            self.entries.retain(|job| lives(job));
        }
    }

    /// Returns the job whose turn it is at `now`, among those for which `lives` is true.
    pub(super) fn next(&mut self, now: u64, lives: impl Fn(&Waiting) -> bool) -> Option<Next> {
        loop {
            let job = match self.queue.order {
                Order::Lifo => self.entries.pop_back(),
                Order::Fifo | Order::CoDel { .. } => self.entries.pop_front(),
            };
            let Some(job) = job else {
                self.codel.below();
                return None;
            };
            if !lives(&job) {
                continue;
            }
            self.waiting -= 1;
            let rejected = match self.queue.order {
                Order::CoDel { target, interval } => {
                    // The last job is always served: rejecting it would leave a server idle.
                    self.codel.drops(now, now - job.since, target, interval, self.waiting == 0)
                }
                Order::Fifo | Order::Lifo => false,
            };
            return Some(if rejected { Next::Reject(job) } else { Next::Serve(job) });
        }
    }

    /// Removes all waiting jobs, for a crash.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.waiting = 0;
        self.codel = CoDel::default();
        std::mem::take(&mut self.entries).into_iter()
    }
}

/// The control law of `CoDel`, with the names of RFC 8289.
#[derive(Default)]
struct CoDel {
    /// The instant at which waits will have been above the target for an interval; `None` while
    /// they are below it.
    first_above: Option<u64>,
    dropping: bool,
    count: u32,
    drop_next: u64,
}

impl CoDel {
    fn below(&mut self) {
        self.first_above = None;
        self.dropping = false;
    }

    fn drops(&mut self, now: u64, waited: u64, target: u64, interval: u64, last: bool) -> bool {
        if waited < target || last {
            self.below();
            return false;
        }
        let Some(above_since) = self.first_above else {
            self.first_above = Some(now + interval);
            return false;
        };
        if now < above_since {
            return false;
        }
        if self.dropping {
            if now < self.drop_next {
                return false;
            }
            self.count += 1;
            self.drop_next += self.spacing(interval);
            return true;
        }
        // Not dropping => dropping: soon after the last time, it continues at about the old rate.
        self.dropping = true;
        let recently = now.saturating_sub(self.drop_next) < 16 * interval;
        self.count = if recently && self.count > 2 { self.count - 2 } else { 1 };
        self.drop_next = now + self.spacing(interval);
        true
    }

    fn spacing(&self, interval: u64) -> u64 {
        (interval as f64 / f64::from(self.count).sqrt()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn job(number: u64, since: u64) -> Waiting {
        Waiting { slot: 0, number, since }
    }

    fn served(queue: Queue) -> Vec<u64> {
        let mut waiters = WaitQueue::new(queue);
        (0..4).for_each(|n| waiters.push(job(n, n)));
        waiters.cancelled(|job| job.number != 1);
        let next = || waiters.next(10, |job| job.number != 1);
        let number = |next| match next {
            Next::Serve(job) | Next::Reject(job) => job.number,
        };
        std::iter::from_fn(next).map(number).collect()
    }

    #[test]
    fn the_order_is_that_of_the_discipline_and_skips_the_cancelled() {
        assert_eq!(served(Queue::fifo()), [0, 2, 3]);
        assert_eq!(served(Queue::lifo()), [3, 2, 0]);
    }

    #[test]
    fn cancelled_jobs_at_the_bottom_of_a_stack_do_not_pile_up() {
        let mut waiters = WaitQueue::new(Queue::lifo());
        for n in 0..10_000 {
            waiters.push(job(n, n));
            waiters.cancelled(|_| false);
        }
        assert_eq!(waiters.waiting(), 0);
        assert!(waiters.entries.len() <= 66, "{}", waiters.entries.len());
    }

    #[test]
    fn codel_drops_ever_more_of_a_standing_queue_and_stops_when_it_is_gone() {
        let mut waiters = WaitQueue::new(Queue::codel(
            std::time::Duration::from_millis(5),
            std::time::Duration::from_millis(100),
        ));
        let mut dropped = Vec::new();
        // Two jobs arrive and one leaves each millisecond: all have waited 50 ms.
        for ms in 50..1050 {
            while waiters.waiting() < 50 {
                waiters.push(job(ms, (ms - 50) * MS));
            }
            while let Some(Next::Reject(_)) = waiters.next(ms * MS, |_| true) {
                dropped.push(ms);
            }
        }
        // The first comes after one interval above the target, the next ones at distances of 100 /
        // sqrt(n) ms.
        assert_eq!(dropped[..4], [150, 250, 321, 379]);
        let halves = [250..550, 750..1050]
            .map(|half| dropped.iter().filter(|ms| half.contains(*ms)).count());
        assert!(halves[1] > halves[0], "{halves:?}");
        waiters.push(job(0, 2000 * MS));
        waiters.drain().for_each(drop);
        waiters.push(job(1, 3000 * MS));
        waiters.push(job(2, 3000 * MS));
        assert!(
            matches!(waiters.next(3001 * MS, |_| true), Some(Next::Serve(_))),
            "no standing queue"
        );
    }
}
