use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use buttress::Clock;

/// The behaviour of one call.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct Step<Res, E> {
    pub(super) wait: Wait,
    pub(super) result: Option<Result<Res, E>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Wait {
    None,
    For(Duration),
    UntilOpen,
    Ever,
}

impl<Res, E> Step<Res, E> {
    /// Answers immediately.
    pub fn answer(response: Res) -> Self {
        Self { wait: Wait::None, result: Some(Ok(response)) }
    }

    /// Fails immediately.
    pub fn fail(error: impl Into<E>) -> Self {
        Self { wait: Wait::None, result: Some(Err(error.into())) }
    }

    /// Never answers.
    pub const fn never() -> Self {
        Self { wait: Wait::Ever, result: None }
    }

    /// Panics when it is polled.
    pub const fn panic() -> Self {
        Self { wait: Wait::None, result: None }
    }

    /// Delays the step by `delay`.
    pub fn after(mut self, delay: Duration) -> Self {
        self.wait = Wait::For(delay);
        self
    }

    /// Delays the step until [`Script::open`] is called.
    pub fn held(mut self) -> Self {
        self.wait = Wait::UntilOpen;
        self
    }
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ended {
    /// The call still runs.
    Running,
    /// The call ended with a response.
    Answered,
    /// The call ended with an error.
    Failed,
    /// The future was dropped before its end, or panicked.
    Dropped,
}

/// The record of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<Req> {
    /// The request.
    pub request: Req,
    /// The time of the call since the service was made.
    pub at: Duration,
    /// The time of its end, if it has ended.
    pub ended_at: Option<Duration>,
    /// How the call ended.
    pub ended: Ended,
}

type Otherwise<Req, Res, E> = Box<dyn FnMut(&Req) -> Step<Res, E> + Send>;

pub(super) struct State<Req, Res, E> {
    pub steps: VecDeque<Step<Res, E>>,
    pub otherwise: Option<Otherwise<Req, Res, E>>,
    pub ready: bool,
    pub ready_error: Option<E>,
    pub opened: bool,
    pub parked: Vec<Waker>,
    pub calls: Vec<Call<Req>>,
    pub running: usize,
    pub peak: usize,
}

/// The script of a service and its clones, and the record of their calls. Clones are the same
/// script.
pub struct Script<Req, Res, E> {
    pub(super) state: Arc<Mutex<State<Req, Res, E>>>,
    pub(super) clock: Clock,
    start: Instant,
}

impl<Req, Res, E> Script<Req, Res, E> {
    pub(super) fn new(clock: Clock) -> Self {
        let state = State {
            steps: VecDeque::new(),
            otherwise: None,
            ready: true,
            ready_error: None,
            opened: false,
            parked: Vec::new(),
            calls: Vec::new(),
            running: 0,
            peak: 0,
        };
        let start = clock.now();
        Self { state: Arc::new(Mutex::new(state)), clock, start }
    }

    /// Appends `steps`. The next calls run them, one step per call.
    pub fn then(&self, steps: impl IntoIterator<Item = Step<Res, E>>) -> &Self {
        self.lock().steps.extend(steps);
        self
    }

    /// Sets the step of calls beyond the listed steps. `step` receives the request. Default: such
    /// calls never answer.
    pub fn otherwise(&self, step: impl FnMut(&Req) -> Step<Res, E> + Send + 'static) -> &Self {
        self.lock().otherwise = Some(Box::new(step));
        self
    }

    /// Makes services not ready until [`unblock`](Self::unblock).
    pub fn block(&self) {
        self.lock().ready = false;
    }

    /// Makes services ready again.
    pub fn unblock(&self) {
        self.change(|state| state.ready = true);
    }

    /// Makes the next `poll_ready` fail with `error`.
    pub fn fail_ready(&self, error: E) {
        self.change(|state| state.ready_error = Some(error));
    }

    /// Lets all held calls continue, including later ones.
    pub fn open(&self) {
        self.change(|state| state.opened = true);
    }

    /// Returns all calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call<Req>>
    where
        Req: Clone,
    {
        self.lock().calls.clone()
    }

    /// Returns the number of calls so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().calls.len()
    }

    /// Returns the number of calls that have neither ended nor been dropped.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lock().running
    }

    /// Returns the largest number of concurrent calls.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.lock().peak
    }

    fn change(&self, change: impl FnOnce(&mut State<Req, Res, E>)) {
        let mut state = self.lock();
        change(&mut state);
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        parked.into_iter().for_each(Waker::wake);
    }

    pub(super) fn begin(&self, request: Req) -> (usize, Step<Res, E>) {
        let at = self.elapsed();
        let mut state = self.lock();
        let step = match state.steps.pop_front() {
            Some(step) => step,
            None => state.otherwise.as_mut().map_or_else(Step::never, |step| step(&request)),
        };
        state.calls.push(Call { request, at, ended_at: None, ended: Ended::Running });
        state.running += 1;
        state.peak = state.peak.max(state.running);
        (state.calls.len() - 1, step)
    }

    pub(super) fn end(&self, call: usize, ended: Ended) {
        let at = self.elapsed();
        let mut state = self.lock();
        state.running -= 1;
        if let Some(call) = state.calls.get_mut(call) {
            call.ended = ended;
            call.ended_at = Some(at);
        }
    }

    fn elapsed(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.start)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<Req, Res, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Req, Res, E> Clone for Script<Req, Res, E> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), clock: self.clock.clone(), start: self.start }
    }
}

impl<Req, Res, E> fmt::Debug for Script<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Script")
            .field("calls", &state.calls.len())
            .field("running", &state.running)
            .finish_non_exhaustive()
    }
}
