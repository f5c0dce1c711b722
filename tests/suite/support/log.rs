//! The orders of a scripted service, and its record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use buttress::Clock;

/// What one call does. Successful calls answer with their number, the first is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Answer,
    AnswerAfter(u64),
    Fail,
    FailAfter(u64),
    /// Answers once [`Log::open`] was called.
    Held,
    Never,
    PanicInCall,
    /// Pending before the poll of this number, which panics; the first is 1.
    PanicAtPoll(u32),
}

/// What `poll_ready` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Readiness {
    Ready,
    Pending,
    Fails,
    Panics,
}

/// What was done to a scripted service and its clones, and what they do next.
#[derive(Clone)]
pub(crate) struct Log {
    script: Arc<Mutex<Script>>,
}

pub(super) struct Script {
    pub(super) steps: VecDeque<Step>,
    pub(super) otherwise: Step,
    pub(super) readiness: Readiness,
    pub(super) opened: bool,
    pub(super) parked: Vec<Waker>,
    pub(super) start: Instant,
    pub(super) at: Vec<u64>,
    pub(super) clones: usize,
    pub(super) ready_polls: usize,
    pub(super) polls: usize,
    pub(super) live: usize,
    pub(super) running: usize,
    pub(super) peak: usize,
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

    /// The next calls do `steps`, one each.
    pub(crate) fn then(&self, steps: impl IntoIterator<Item = Step>) -> &Self {
        self.lock().steps.extend(steps);
        self
    }

    /// Calls beyond those do `step`. At first they answer.
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

    /// Services are not ready until [`unblock`](Self::unblock).
    pub(crate) fn block(&self) {
        self.set(Readiness::Pending);
    }

    pub(crate) fn unblock(&self) {
        self.set(Readiness::Ready);
    }

    /// The next `poll_ready` fails.
    pub(crate) fn fail_ready(&self) {
        self.set(Readiness::Fails);
    }

    /// The next `poll_ready` panics.
    pub(crate) fn panic_ready(&self) {
        self.set(Readiness::Panics);
    }

    /// Calls that are held, now or later, answer.
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

    /// When each call was made, in milliseconds since the service was made.
    pub(crate) fn at(&self) -> Vec<u64> {
        self.lock().at.clone()
    }

    pub(crate) fn clones(&self) -> usize {
        self.lock().clones
    }

    pub(crate) fn ready_polls(&self) -> usize {
        self.lock().ready_polls
    }

    /// Polls of response futures.
    pub(crate) fn polls(&self) -> usize {
        self.lock().polls
    }

    /// Response futures that were not dropped.
    pub(crate) fn live(&self) -> usize {
        self.lock().live
    }

    /// The most calls that ran at once: called, and neither answered nor dropped.
    pub(crate) fn peak(&self) -> usize {
        self.lock().peak
    }
}
