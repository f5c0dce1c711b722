//! A station in time: its state behind a lock, and its one timer.

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

/// The state that a station shares with the futures of its calls.
///
/// It is itself the waker of its timer: jobs end when the clock fires, without a task in between.
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
    /// `None` before the first use, and after the simulation has ended.
    timer: Option<Pin<Box<Sleep>>>,
    /// This core as the waker of its timer, made once.
    waker: Option<Waker>,
    /// The deadline of the timer; `None` after it has fired.
    armed: Option<u64>,
    over: bool,
}

/// The notifications to send after the lock is released.
#[derive(Default)]
struct Notifications {
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

    /// Drops the timer and the waker, which keep this value alive.
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

    /// Ends the jobs that are due, sets the timer to the next deadline, and sends the notifications
    /// after the lock is released.
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
            // A separate path, because this is the end of every job: it allocates nothing.
            let woken = state.woken.pop();
            drop(shared);
            woken.into_iter().for_each(Waker::wake);
            return;
        }
        let notifications = Notifications {
            woken: std::mem::take(&mut state.woken),
            happened: state.happened.as_mut().map(std::mem::take).unwrap_or_default(),
        };
        drop(shared);
        for (what, number) in notifications.happened {
            self.recorder.event(self.source, what.into(), number);
        }
        notifications.woken.into_iter().for_each(Waker::wake);
    }

    fn arm(self: &Arc<Self>, shared: &mut Shared, due: u64) {
        // A timer that fires too early costs less than cancelling it.
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
            // Unreachable: the jobs that were due have ended before.
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
