//! Who waits, and who is next.

use std::collections::VecDeque;

use super::config::{Order, Queue};

/// A job in the line: its slot, its number, and when it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) slot: u32,
    pub(super) number: u64,
    pub(super) since: u64,
}

/// What becomes of the job whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Serve(Waiting),
    /// It has waited for too long; the one after it is asked next.
    TurnAway(Waiting),
}

pub(super) struct Line {
    queue: Queue,
    line: VecDeque<Waiting>,
    /// Jobs that wait: entries of `line` that were not cancelled.
    waiting: u32,
    codel: CoDel,
}

impl Line {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, line: VecDeque::new(), waiting: 0, codel: CoDel::default() }
    }

    #[inline]
    pub(super) const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether one more may wait.
    pub(super) const fn has_room(&self) -> bool {
        self.waiting < self.queue.bound
    }

    pub(super) fn push(&mut self, job: Waiting) {
        self.waiting += 1;
        self.line.push_back(job);
    }

    /// A job that waits has been cancelled. Its entry goes when it comes up, or here once most entries are of
    /// that kind, so that the bottom of a stack does not grow for ever.
    pub(super) fn cancelled(&mut self, lives: impl Fn(&Waiting) -> bool) {
        self.waiting -= 1;
        if self.line.len() > 64 && self.line.len() / 2 > self.waiting as usize {
            self.line.retain(|job| lives(job));
        }
    }

    /// Whose turn it is at `now`, among those that `lives` knows.
    pub(super) fn next(&mut self, now: u64, lives: impl Fn(&Waiting) -> bool) -> Option<Next> {
        loop {
            let job = match self.queue.order {
                Order::Lifo => self.line.pop_back(),
                Order::Fifo | Order::CoDel { .. } => self.line.pop_front(),
            };
            let Some(job) = job else {
                self.codel.below();
                return None;
            };
            if !lives(&job) {
                continue;
            }
            self.waiting -= 1;
            let turned_away = match self.queue.order {
                Order::CoDel { target, interval } => {
                    // The last one in line is served: turning it away would leave a server idle.
                    self.codel.drops(now, now - job.since, target, interval, self.waiting == 0)
                }
                Order::Fifo | Order::Lifo => false,
            };
            return Some(if turned_away { Next::TurnAway(job) } else { Next::Serve(job) });
        }
    }

    /// Everybody who waits, for a crash.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.waiting = 0;
        self.codel = CoDel::default();
        std::mem::take(&mut self.line).into_iter()
    }
}

/// The control law of `CoDel`, in the words of RFC 8289.
#[derive(Default)]
struct CoDel {
    /// When waits will have been above the target for an interval; `None` while they are below it.
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
        // Not dropping => dropping: where it was a moment ago, it goes on at about the old rate.
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
        let mut line = Line::new(queue);
        (0..4).for_each(|n| line.push(job(n, n)));
        line.cancelled(|job| job.number != 1);
        let next = || line.next(10, |job| job.number != 1);
        let number = |next| match next {
            Next::Serve(job) | Next::TurnAway(job) => job.number,
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
        let mut line = Line::new(Queue::lifo());
        for n in 0..10_000 {
            line.push(job(n, n));
            line.cancelled(|_| false);
        }
        assert_eq!(line.waiting(), 0);
        assert!(line.line.len() <= 66, "{}", line.line.len());
    }

    #[test]
    fn codel_drops_ever_more_of_a_standing_queue_and_stops_when_it_is_gone() {
        let mut line = Line::new(Queue::codel(
            std::time::Duration::from_millis(5),
            std::time::Duration::from_millis(100),
        ));
        let mut dropped = Vec::new();
        // Two come and one goes each millisecond: everybody has waited 50 ms.
        for ms in 50..1050 {
            while line.waiting() < 50 {
                line.push(job(ms, (ms - 50) * MS));
            }
            while let Some(Next::TurnAway(_)) = line.next(ms * MS, |_| true) {
                dropped.push(ms);
            }
        }
        // After one interval above the target, then 100 / sqrt(n) ms apart.
        assert_eq!(dropped[..4], [150, 250, 321, 379]);
        let halves = [250..550, 750..1050]
            .map(|half| dropped.iter().filter(|ms| half.contains(*ms)).count());
        assert!(halves[1] > halves[0], "{halves:?}");
        line.push(job(0, 2000 * MS));
        line.drain().for_each(drop);
        line.push(job(1, 3000 * MS));
        line.push(job(2, 3000 * MS));
        assert!(
            matches!(line.next(3001 * MS, |_| true), Some(Next::Serve(_))),
            "no standing queue"
        );
    }
}
