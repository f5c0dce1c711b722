//! The decisions of a station: which job is served, when it ends, which call is rejected. It takes
//! the time, in nanoseconds since the start, and returns the wakers to wake. It never waits.

mod cut_short;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use super::config::{Leave, Load, Server};
use super::failure::ServerError;
use super::job::{Dice, Happened, Job, Phase, waits};
use super::service::Served;
use super::stats::StationStats;
use super::tally::Tally;
use super::wait_queue::{Next, WaitQueue, Waiting};
use crate::fault::Condition;

pub(super) struct State {
    servers: u32,
    leave: Leave,
    condition: Condition,
    waiters: WaitQueue,
    jobs: Vec<Job>,
    free: Vec<u32>,
    numbers: u64,
    /// Jobs up to this number arrived before the end of the warm-up. Their ends are not counted.
    uncounted: u64,
    /// The ends of jobs, in time that does not pass during pauses. Entries of jobs that ended
    /// before are skipped.
    due: BinaryHeap<Reverse<(u64, u64, u32)>>,
    running: u32,
    paused_for: u64,
    paused_since: Option<u64>,
    tally: Tally,
    /// The wakers to wake after the lock is released.
    pub woken: Vec<Waker>,
    /// The events, if the trace records them.
    pub happened: Option<Vec<(Happened, u64)>>,
}

/// How a call arrived.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Arrival {
    Refused(ServerError),
    Swallowed,
    Job { slot: u32 },
}

impl State {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            servers: server.servers,
            leave: server.leave,
            condition: Condition::default(),
            waiters: WaitQueue::new(server.queue),
            jobs: Vec::new(),
            free: Vec::new(),
            numbers: 0,
            uncounted: 0,
            due: BinaryHeap::new(),
            running: 0,
            paused_for: 0,
            paused_since: None,
            tally: Tally::default(),
            woken: Vec::new(),
            happened: None,
        }
    }

    pub(super) fn arrive(&mut self, now: u64, dice: &impl Dice) -> Arrival {
        self.tally.counts.arrived += 1;
        if self.condition.down {
            self.tally.counts.down += 1;
            return Arrival::Refused(ServerError::Down);
        }
        if self.condition.swallows {
            self.tally.counts.swallowed += 1;
            return Arrival::Swallowed;
        }
        let free = self.has_free_server() && self.waiters.waiting() == 0;
        if !free && !self.waiters.has_room() {
            self.tally.counts.overloaded += 1;
            return Arrival::Refused(ServerError::Overloaded);
        }
        self.account(now);
        let (slot, number) = self.admit(now);
        self.note(Happened::Arrived, number);
        if free {
            self.start(slot, now, dice);
        } else {
            self.waiters.push(Waiting { slot, number, since: now });
        }
        Arrival::Job { slot }
    }

    fn admit(&mut self, now: u64) -> (u32, u64) {
        self.numbers += 1;
        let number = self.numbers;
        let job = Job::new(number, now);
        let slot = self.free.pop().unwrap_or(self.jobs.len() as u32);
        match self.jobs.get_mut(slot as usize) {
            Some(place) => *place = job,
            None => self.jobs.push(job),
        }
        self.tally.present += 1;
        (slot, number)
    }

    const fn has_free_server(&self) -> bool {
        let capacity = match self.condition.capacity {
            Some(cut) if cut < self.servers => cut,
            _ => self.servers,
        };
        self.running < capacity && self.paused_since.is_none()
    }

    // Waiting => Running
    fn start(&mut self, slot: u32, now: u64, dice: &impl Dice) {
        self.running += 1;
        let load = Load { waiting: self.waiters.waiting(), running: self.running };
        let (work, verdict) = dice.roll(load, &self.condition);
        let worked = self.worked(now);
        let due = worked.saturating_add(work);
        let Some(job) = self.jobs.get_mut(slot as usize) else { return };
        (job.phase, job.started, job.verdict) = (Phase::Running, now, verdict);
        job.started_work = worked;
        let number = job.number;
        self.due.push(Reverse((due, number, slot)));
        self.note(Happened::Started, number);
    }

    /// Gives free servers to waiting jobs.
    fn start_waiting(&mut self, now: u64, dice: &impl Dice) {
        while self.has_free_server() {
            let jobs = &self.jobs;
            match self.waiters.next(now, |waiting| waits(jobs, waiting)) {
                Some(Next::Serve(job)) => self.start(job.slot, now, dice),
                // Waiting => Done: the job has waited for too long.
                Some(Next::Reject(job)) => {
                    self.tally.counts.overloaded += self.counted(job.number);
                    self.note(Happened::Rejected, job.number);
                    self.end(job.slot, now, Err(ServerError::Overloaded));
                }
                None => break,
            }
        }
    }

    /// Ends the next job that is due, if there is one. `woken` has the wakers to wake.
    pub(super) fn finish_next(&mut self, now: u64, dice: &impl Dice) -> bool {
        let worked = self.worked(now);
        let Some(Reverse((due, number, slot))) = self.first_due() else { return false };
        if due > worked || self.paused_since.is_some() {
            return false;
        }
        self.due.pop();
        self.account(now);
        let counted = self.counted(number);
        let Some(job) = self.jobs.get(slot as usize) else { return true };
        let (spent, busy) = (now - job.started, worked - job.started_work);
        let waited = job.started - job.arrived;
        // Running => Done
        let result = match job.verdict {
            None => {
                self.tally.counts.completed += counted;
                Ok(Served::new(waited, spent))
            }
            Some(error) => {
                self.tally.counts.failed += counted;
                Err(error)
            }
        };
        if job.gone {
            self.tally.counts.orphaned += counted;
        }
        if job.gone || result.is_err() {
            self.tally.wasted += u128::from(busy);
        }
        self.running -= 1;
        self.note(Happened::Finished, number);
        self.end(slot, now, result);
        self.start_waiting(now, dice);
        true
    }

    /// Ends a job that neither waits nor runs any more.
    fn end(&mut self, slot: u32, now: u64, result: Result<Served, ServerError>) {
        let uncounted = self.uncounted;
        let Some(job) = self.jobs.get_mut(slot as usize) else { return };
        self.tally.depart(job.arrived, now, u64::from(job.number > uncounted));
        if job.gone {
            self.release(slot);
            return;
        }
        job.phase = Phase::Done(result);
        if let Some(waker) = job.waker.take() {
            self.woken.push(waker);
        }
    }

    fn release(&mut self, slot: u32) {
        if let Some(job) = self.jobs.get_mut(slot as usize) {
            job.phase = Phase::Free;
            job.waker = None;
            self.free.push(slot);
        }
    }

    /// Returns the result of a job, or registers `waker` for it.
    pub(super) fn poll(&mut self, slot: u32, waker: &Waker) -> Option<Result<Served, ServerError>> {
        let job = self.jobs.get_mut(slot as usize)?;
        if let Phase::Done(result) = job.phase {
            self.release(slot);
            return Some(result);
        }
        match &mut job.waker {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        None
    }

    /// Returns the end of the next job; `None` if none runs, or during a pause.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        if self.paused_since.is_some() {
            return None;
        }
        let Reverse((due, ..)) = self.first_due()?;
        Some(due.saturating_add(self.paused_for))
    }

    fn first_due(&mut self) -> Option<Reverse<(u64, u64, u32)>> {
        while let Some(entry @ &Reverse((_, number, slot))) = self.due.peek() {
            let job = self.jobs.get(slot as usize);
            if job.is_some_and(|job| job.number == number && job.phase == Phase::Running) {
                return Some(*entry);
            }
            self.due.pop();
        }
        None
    }

    /// Returns the time that has passed outside of pauses.
    fn worked(&self, now: u64) -> u64 {
        self.paused_since.unwrap_or(now).min(now) - self.paused_for
    }

    /// Returns 1 if the job arrived after the warm-up, else 0.
    const fn counted(&self, number: u64) -> u64 {
        (number > self.uncounted) as u64
    }

    fn account(&mut self, now: u64) {
        // During a pause no server works, although jobs are in service.
        let busy = if self.paused_since.is_some() { 0 } else { self.running };
        self.tally.account(now, busy);
    }

    fn note(&mut self, what: Happened, number: u64) {
        if let Some(happened) = &mut self.happened {
            happened.push((what, number));
        }
    }

    /// Restarts the counts at the end of the warm-up.
    pub(super) fn restart_tally(&mut self, now: u64) {
        self.account(now);
        self.uncounted = self.numbers;
        self.tally.restart(now);
    }

    pub(super) fn stats(&mut self, now: u64) -> StationStats {
        self.account(now);
        let mut stats = self.tally.stats(now);
        (stats.waiting, stats.running) = (self.waiters.waiting(), self.running);
        stats
    }
}
