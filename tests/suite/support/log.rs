//! The script of a scripted service, and its record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use buttress::Clock;

/// The behaviour of one call. Successful calls answer with their number, from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Answer,
    AnswerAfter(u64),
    Fail,
    FailAfter(u64),
    /// Answers after [`Log::open`] is called.
    Held,
    Never,
    PanicInCall,
    /// Pending before the poll with this number, which panics. The first is 1.
    PanicAtPoll(u32),
}

/// The behaviour of `poll_ready`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Readiness {
    Ready,
    Pending,
    Fails,
    Panics,
}

/// The record of a scripted service and its clones, and their next behaviour.
#[derive(Clone)]
pub(crate) struct Log {
    script: Arc<Mutex<Script>>,
}

pub(super) struct Script {
    pub steps: VecDeque<Step>,
    pub otherwise: Step,
    pub readiness: Readiness,
    pub opened: bool,
    pub parked: Vec<Waker>,
    pub start: Instant,
    pub at: Vec<u64>,
    pub clones: usize,
    pub ready_polls: usize,
    pub polls: usize,
    pub live: usize,
    pub running: usize,
    pub peak: usize,
}

impl Log {
    pub(super) fn new() -> Self {
        let script = Script {
            steps: VecDeque::new(),
            otherwise: Step::Answer,
            readiness: Readiness::Ready,
            opened: false,
            parked: Vec::new(),
            start: Clock::default().now(),
            at: Vec::new(),
            clones: 0,
            ready_polls: 0,
            polls: 0,
            live: 0,
            running: 0,
            peak: 0,
        };
        Self { script: Arc::new(Mutex::new(script)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `steps`. The next calls run them, one step per call.
    pub(crate) fn then(&self, steps: impl IntoIterator<Item = Step>) -> &Self {
        self.lock().steps.extend(steps);
        self
    }

    /// Sets the step of all further calls. Default: they answer.
    pub(crate) fn always(&self, step: Step) -> &Self {
        self.lock().otherwise = step;
        self
    }

    fn set(&self, readiness: Readiness) {
        let parked = {
            let mut script = self.lock();
            script.readiness = readiness;
            std::mem::take(&mut script.parked)
        };
        parked.into_iter().for_each(Waker::wake);
    }

    /// Makes services not ready until [`unblock`](Self::unblock).
    pub(crate) fn block(&self) {
        self.set(Readiness::Pending);
    }

    pub(crate) fn unblock(&self) {
        self.set(Readiness::Ready);
    }

    /// Makes the next `poll_ready` fail.
    pub(crate) fn fail_ready(&self) {
        self.set(Readiness::Fails);
    }

    /// Makes the next `poll_ready` panic.
    pub(crate) fn panic_ready(&self) {
        self.set(Readiness::Panics);
    }

    /// Lets all held calls answer, including later ones.
    pub(crate) fn open(&self) {
        let parked = {
            let mut script = self.lock();
            script.opened = true;
            std::mem::take(&mut script.parked)
        };
        parked.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn calls(&self) -> usize {
        self.lock().at.len()
    }

    /// Returns the time of each call, in milliseconds since the service was made.
    pub(crate) fn at(&self) -> Vec<u64> {
        self.lock().at.clone()
    }

    pub(crate) fn clones(&self) -> usize {
        self.lock().clones
    }

    pub(crate) fn ready_polls(&self) -> usize {
        self.lock().ready_polls
    }

    /// Returns the number of polls of response futures.
    pub(crate) fn polls(&self) -> usize {
        self.lock().polls
    }

    /// Returns the number of response futures that were not dropped.
    pub(crate) fn live(&self) -> usize {
        self.lock().live
    }

    /// Returns the largest number of concurrent calls, which have neither answered nor been
    /// dropped.
    pub(crate) fn peak(&self) -> usize {
        self.lock().peak
    }
}
