//! A station in time: its state behind a lock, and the one timer it has.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use buttress::{Clock, Sleep, VirtualClock};

use super::config::Server;
use super::failure::ServerError;
use super::job::Happened;
use super::roll::Roll;
use super::state::{Arrival, State};
use super::stats::StationStats;
use crate::Seed;
use crate::distribution::nanos;
use crate::fault::Condition;
use crate::measure::{Recorder, SourceId};

/// What a station and the futures of its calls share.
///
/// It is itself the waker of its timer: jobs end where the clock fires, without a task in between.
pub(crate) struct Core {
    name: String,
    source: SourceId,
    time: VirtualClock,
    clock: Clock,
    /// Nanosecond 0 of `time`.
    start: Instant,
    roll: Roll,
    recorder: Arc<Recorder>,
    shared: Mutex<Shared>,
}

struct Shared {
    state: State,
    /// `None` until it is needed, and once the simulation is over.
    timer: Option<Pin<Box<Sleep>>>,
    /// This core as the waker of its timer, made once.
    waker: Option<Waker>,
    /// What the timer is set to; `None` once it has fired.
    armed: Option<u64>,
    over: bool,
}

/// What was done under the lock and is told after it.
#[derive(Default)]
struct Told {
    woken: Vec<Waker>,
    happened: Vec<(Happened, u64)>,
}

impl Core {
    pub(crate) fn new(
        server: &Server,
        seed: Seed,
        time: &VirtualClock,
        start: Instant,
        recorder: &Arc<Recorder>,
    ) -> Arc<Self> {
        let mut state = State::new(server);
        if recorder.is_full() {
            state.happened = Some(Vec::new());
        }
        let roll = Roll::new(server, seed);
        Arc::new(Self {
            name: server.name.clone(),
            source: recorder.source(&server.name),
            time: time.clone(),
            clock: time.clock(),
            start,
            roll,
            recorder: recorder.clone(),
            shared: Mutex::new(Shared {
                state,
                timer: None,
                waker: None,
                armed: None,
                over: false,
            }),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn arrive(self: &Arc<Self>) -> Arrival {
        let now = self.now();
        self.change(now, |state, roll| state.arrive(now, roll))
    }

    pub(super) fn leave(self: &Arc<Self>, slot: u32) {
        let now = self.now();
        self.change(now, |state, roll| state.leave(slot, now, roll));
    }

    pub(crate) fn set_condition(self: &Arc<Self>, condition: Condition) {
        let now = self.now();
        self.change(now, |state, roll| state.set_condition(now, condition, roll));
    }

    pub(super) fn poll(
        &self,
        slot: u32,
        waker: &Waker,
    ) -> Option<Result<super::Served, ServerError>> {
        self.lock().state.poll(slot, waker)
    }

    pub(crate) fn stats(&self) -> StationStats {
        let now = self.now();
        self.lock().state.stats(now)
    }

    pub(crate) fn restart_tally(&self) {
        let now = self.now();
        self.lock().state.restart_tally(now);
    }

    /// Takes back the timer and the waker, which keep this value alive.
    pub(crate) fn shut_down(&self) {
        let mut shared = self.lock();
        shared.over = true;
        let held = (shared.timer.take(), shared.waker.take());
        drop(shared);
        drop(held);
    }

    fn change<T>(self: &Arc<Self>, now: u64, change: impl FnOnce(&mut State, &Roll) -> T) -> T {
        let mut shared = self.lock();
        let result = change(&mut shared.state, &self.roll);
        self.settle(shared, now);
        result
    }

    /// Ends what is due, sets the timer to what comes next, and tells once the lock is given back.
    fn settle(self: &Arc<Self>, mut shared: MutexGuard<'_, Shared>, now: u64) {
        while let Some(due) = shared.state.next_due() {
            if due > now {
                self.arm(&mut shared, due);
                break;
            }
            if !shared.state.finish_next(now, &self.roll) {
                break;
            }
        }
        let state = &mut shared.state;
        if state.woken.len() <= 1 && state.happened.is_none() {
            // Kept apart, because it is what happens at the end of every job: nothing is allocated.
            let woken = state.woken.pop();
            drop(shared);
            woken.into_iter().for_each(Waker::wake);
            return;
        }
        let told = Told {
            woken: std::mem::take(&mut state.woken),
            happened: state.happened.as_mut().map(std::mem::take).unwrap_or_default(),
        };
        drop(shared);
        for (what, number) in told.happened {
            self.recorder.event(self.source, what.into(), number);
        }
        told.woken.into_iter().for_each(Waker::wake);
    }

    fn arm(self: &Arc<Self>, shared: &mut Shared, due: u64) {
        // A timer that is set too early fires for nothing, which costs less than taking it back.
        if shared.over || shared.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        shared.armed = Some(due);
        let deadline = self.start + Duration::from_nanos(due);
        let waker = shared.waker.get_or_insert_with(|| Waker::from(self.clone()));
        let cx = &mut Context::from_waker(waker);
        let timer = match &mut shared.timer {
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            empty => empty.insert(Box::pin(self.clock.sleep_until(deadline))),
        };
        if timer.as_mut().poll(cx).is_ready() {
            // It is not: what was due has been ended before.
            shared.armed = None;
        }
    }

    #[inline]
    fn now(&self) -> u64 {
        nanos(self.time.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Core {
    fn wake(self: Arc<Self>) {
        let mut shared = self.lock();
        shared.armed = None;
        self.settle(shared, self.now());
    }
}
