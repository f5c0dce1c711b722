//! Interrupted work: callers that leave, pauses and crashes.

use super::super::config::Leave;
use super::super::failure::ServerError;
use super::super::job::{Dice, Happened, Phase, waits};
use super::State;
use crate::fault::Condition;

impl State {
    /// Handles a caller that leaves before it gets the result of its job.
    pub(in crate::server) fn leave(&mut self, slot: u32, now: u64, dice: &impl Dice) {
        self.account(now);
        let Some(job) = self.jobs.get_mut(slot as usize) else { return };
        job.waker = None;
        match (job.phase, self.leave) {
            (Phase::Free, _) => {}
            (Phase::Done(_), _) => self.release(slot),
            (_, Leave::Continue) => job.gone = true,
            (Phase::Waiting, Leave::Cancel) => {
                self.cancel(slot, now);
                let jobs = &self.jobs;
                self.waiters.cancelled(|waiting| waits(jobs, waiting));
            }
            (Phase::Running, Leave::Cancel) => {
                let began = job.started_work;
                self.tally.wasted += u128::from(self.worked(now) - began);
                self.cancel(slot, now);
                self.running -= 1;
                self.start_waiting(now, dice);
            }
        }
    }

    fn cancel(&mut self, slot: u32, now: u64) {
        let Some(job) = self.jobs.get(slot as usize) else { return };
        let (arrived, number) = (job.arrived, job.number);
        let counted = self.counted(number);
        self.tally.counts.cancelled += counted;
        self.tally.depart(arrived, now, counted);
        self.note(Happened::Cancelled, number);
        self.release(slot);
    }

    pub(in crate::server) fn set_condition(
        &mut self,
        now: u64,
        condition: Condition,
        dice: &impl Dice,
    ) {
        self.account(now);
        match (self.paused_since, condition.paused) {
            // Running => Paused: no work is done until the pause ends.
            (None, true) => self.paused_since = Some(now),
            // Paused => Running: every job continues where it stopped.
            (Some(since), false) => {
                self.paused_for += now - since;
                self.paused_since = None;
            }
            _ => {}
        }
        let crashes = condition.down && !self.condition.down;
        self.condition = condition;
        if crashes {
            self.crash(now);
        }
        self.start_waiting(now, dice);
    }

    /// Loses all jobs.
    fn crash(&mut self, now: u64) {
        self.due.clear();
        self.waiters.drain().for_each(drop);
        self.running = 0;
        for slot in 0..self.jobs.len() as u32 {
            let Some(job) = self.jobs.get(slot as usize) else { continue };
            let number = job.number;
            match job.phase {
                Phase::Waiting => {}
                Phase::Running => {
                    self.tally.wasted += u128::from(self.worked(now) - job.started_work);
                }
                Phase::Free | Phase::Done(_) => continue,
            }
            self.tally.counts.down += self.counted(number);
            self.note(Happened::Crashed, number);
            self.end(slot, now, Err(ServerError::Down));
        }
    }
}
