//! One job of a station.

use std::task::Waker;

use super::config::Load;
use super::failure::ServerError;
use super::service::Served;
use super::wait_queue::Waiting;
use crate::fault::Condition;
use crate::measure::What;

/// The source of the time and the verdict of a job.
pub(super) trait Dice {
    /// Returns the time of the job that begins now, and how it ends.
    fn roll(&self, load: Load, condition: &Condition) -> (u64, Option<ServerError>);
}

/// The events of a job, for traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Happened {
    Arrived,
    Started,
    Finished,
    Rejected,
    Crashed,
    Cancelled,
}

pub(super) struct Job {
    /// Distinguishes this job from other jobs in the slot.
    pub number: u64,
    pub phase: Phase,
    pub arrived: u64,
    pub started: u64,
    /// The start of its service, in time that does not pass during pauses.
    pub started_work: u64,
    pub verdict: Option<ServerError>,
    /// Whether its caller has left.
    pub gone: bool,
    pub waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Phase {
    Free,
    Waiting,
    Running,
    Done(Result<Served, ServerError>),
}

impl Job {
    pub(super) const fn new(number: u64, arrived: u64) -> Self {
        Self {
            number,
            phase: Phase::Waiting,
            arrived,
            started: arrived,
            started_work: 0,
            verdict: None,
            gone: false,
            waker: None,
        }
    }
}

pub(super) fn waits(jobs: &[Job], waiting: &Waiting) -> bool {
    let job = jobs.get(waiting.slot as usize);
    job.is_some_and(|job| job.number == waiting.number && job.phase == Phase::Waiting)
}

impl From<Happened> for What {
    fn from(happened: Happened) -> Self {
        match happened {
            Happened::Arrived => Self::JobArrived,
            Happened::Started => Self::JobStarted,
            Happened::Finished => Self::JobFinished,
            Happened::Rejected => Self::JobRejected,
            Happened::Crashed => Self::JobCrashed,
            Happened::Cancelled => Self::JobCancelled,
        }
    }
}
