//! [`StepRuns`]: the actions and undos of one saga that are in progress, with their attempts.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use buttress::{Format, Sleep};

use crate::caught::{caught, unless};
use crate::instant;
use crate::saga::define::needs::Outputs;
use crate::saga::history::attempted;
use crate::saga::model::plan::Kind;
use crate::saga::run::attempt::{Attempt, AttemptFuture, Cut, Terms, not_made};
use crate::saga::run::bond::Bond;
use crate::saga::run::call::{Direction, StepKey};
use crate::saga::run::draft::Launch;
use crate::saga::run::lease::Permit;
use crate::saga::run::shared::Core;
use crate::saga::store::SagaId;

/// The steps of one saga that are in progress, and the data that they need.
pub(in crate::saga) struct StepRuns<I, F: Format, St> {
    pub core: Arc<Core<I, F, St>>,
    pub saga: SagaId,
    pub input: Arc<I>,
    pub outputs: Outputs,
    /// When the saga must have passed its point of no return.
    pub deadline: Option<Instant>,
    /// `Some` if a step runs a child saga.
    pub bond: Option<Arc<Bond>>,
    underway: Vec<Underway>,
    ended: Vec<Finished>,
}

struct Underway {
    step: u16,
    direction: Direction,
    runs_child: bool,
    /// Whether an attempt before the current one may have had an effect.
    doubt: bool,
    attempts: u32,
    waited: Duration,
    /// The error of the attempt before the current one.
    error: Option<String>,
    /// Taken before the store confirmed the start. No attempt starts once the permit is invalid.
    permit: Permit,
    phase: Phase,
}

enum Phase {
    Attempting(AttemptFuture),
    Waiting(Pin<Box<Sleep>>),
}

/// A step that is not in progress any more.
pub(in crate::saga) struct Finished {
    pub step: u16,
    pub direction: Direction,
    pub ended: Ended,
    /// The text about the attempts, if there were several.
    pub attempted: Option<String>,
}

impl Finished {
    pub(in crate::saga) fn new(step: u16, direction: Direction, ended: Ended) -> Self {
        Self { step, direction, ended, attempted: None }
    }
}

/// How a step in progress ended.
pub(in crate::saga) enum Ended {
    Attempt(Attempt),
    /// No further attempt started, because this worker's lease had lapsed. `doubt` is `true` if an
    /// earlier attempt may have had an effect.
    Lapsed {
        doubt: bool,
    },
}

impl<I: Send + Sync + 'static, F: Format, St> StepRuns<I, F, St> {
    pub(in crate::saga) fn new(
        core: Arc<Core<I, F, St>>,
        saga: SagaId,
        input: Arc<I>,
        outputs: Outputs,
        deadline: Option<Instant>,
    ) -> Self {
        let bond = core.definition.inner.plan.has_children.then(Arc::default);
        let (underway, ended) = (Vec::new(), Vec::new());
        Self { core, saga, input, outputs, deadline, bond, underway, ended }
    }

    pub(in crate::saga) fn is_empty(&self) -> bool {
        self.underway.is_empty() && self.ended.is_empty()
    }

    /// Whether steps are in progress, and each of them runs a child saga.
    pub(in crate::saga) fn has_only_children(&self) -> bool {
        !self.underway.is_empty() && self.underway.iter().all(|underway| underway.runs_child)
    }

    pub(in crate::saga) fn has_lapsed(&self) -> bool {
        self.ended.iter().any(|finished| matches!(finished.ended, Ended::Lapsed { .. }))
    }

    /// Returns the ends since the last call, in their order.
    pub(in crate::saga) fn take_ended(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.ended)
    }

    /// Keeps the room of ends that were taken.
    pub(in crate::saga) fn keep_room(&mut self, taken: Vec<Finished>) {
        if self.ended.is_empty() {
            self.ended = taken;
        }
    }

    /// Puts an end back, for the next call of [`take_ended`](Self::take_ended).
    pub(in crate::saga) fn put_back(&mut self, finished: Finished) {
        self.ended.push(finished);
    }

    /// Starts the first attempt of a step. The store must have confirmed its start under `permit`.
    /// `launch.doubt`: whether an earlier execution, under any worker, may have had an effect.
    pub(in crate::saga) fn launch(&mut self, launch: Launch, permit: &Permit) {
        let Launch { step, direction, doubt } = launch;
        match self.attempt(launch, permit) {
            Some(attempt) => self.underway.push(Underway {
                step,
                direction,
                runs_child: self.runs_child(step),
                doubt,
                attempts: 1,
                waited: Duration::ZERO,
                error: None,
                permit: permit.clone(),
                phase: Phase::Attempting(attempt),
            }),
            None => self.ended.push(Finished::new(step, direction, Ended::Lapsed { doubt })),
        }
    }

    fn runs_child(&self, step: u16) -> bool {
        let plan = &self.core.definition.inner.plan;
        plan.has_children && plan.steps.get(usize::from(step)).is_some_and(|step| step.runs_child)
    }

    /// Creates an attempt. Returns `None` if the lease has lapsed since the store confirmed the
    /// start.
    fn attempt(&self, launch: Launch, permit: &Permit) -> Option<AttemptFuture> {
        let Launch { step, direction, doubt } = launch;
        let core = &self.core;
        // Checked right before the call: since the write, this process may have been paused.
        if !permit.stands() {
            return None;
        }
        let definition = &core.definition.inner;
        let plan = definition.plan.steps.get(usize::from(step))?;
        let code = definition.steps.get(usize::from(step))?;
        let clock = &core.config.common.clock;
        let limit = match direction {
            Direction::Action => code.rules.timeout,
            Direction::Undo => code.rules.undo_timeout,
        };
        let limit = limit.map(|limit| instant::after(clock.now(), limit));
        // Past its point of no return a saga has no deadline. An undo never has one.
        let cut = direction == Direction::Action && plan.kind == Kind::Compensatable;
        let cut = Cut::earlier(limit, self.deadline.filter(|_| cut));
        let key = StepKey::new(self.saga, plan.name, direction);
        let (permit, hint) = (permit.clone(), code.rules.hint.clone());
        let bond = plan.runs_child.then(|| self.bond.clone()).flatten();
        let terms = Terms { key, cut, clock: clock.clone(), doubt, permit, hint, bond };
        // The code first clones the service, which is user code.
        let attempt = caught(|| match direction {
            Direction::Action => (code.act)(&self.input, &self.outputs, terms),
            Direction::Undo => code.undo(&self.input, &self.outputs, self.outputs.of(step), terms),
        });
        Some(attempt.unwrap_or_else(|why| not_made(doubt, why)))
    }

    /// Polls the steps. Returns whether there are ends that were not taken yet, or a step was dropped without an outcome.
    pub(in crate::saga) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut at, mut has_dropped) = (0, false);
        while at < self.underway.len() {
            match self.poll_one(at, cx) {
                Poll::Ready(ended) => {
                    let done = self.underway.remove(at);
                    if let Some(ended) = ended {
                        let Underway { step, direction, attempts, error, .. } = done;
                        let attempted = (attempts > 1)
                            .then(|| attempted(attempts, error.as_deref().unwrap_or_default()));
                        self.ended.push(Finished { step, direction, ended, attempted });
                    } else {
                        // Often the last one, and then nothing else wakes the task.
                        has_dropped = true;
                    }
                }
                Poll::Pending => at += 1,
            }
        }
        has_dropped || !self.ended.is_empty()
    }

    /// Returns `None` if the step was dropped without an outcome, because the executor is shutting
    /// down.
    fn poll_one(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        loop {
            let Some(underway) = self.underway.get_mut(at) else { return Poll::Ready(None) };
            let (step, direction) = (underway.step, underway.direction);
            match &mut underway.phase {
                Phase::Attempting(attempt) => {
                    // A finished attempt drops its values, which are user code too.
                    let attempt = match caught(|| attempt.as_mut().poll(cx)) {
                        // A child saga may wait for days. The next worker of its parent finds it.
                        Ok(Poll::Pending)
                            if underway.runs_child && self.core.is_shutting_down() =>
                        {
                            return Poll::Ready(None);
                        }
                        Ok(Poll::Pending) => return Poll::Pending,
                        Ok(Poll::Ready(Attempt::Lapsed { doubt })) => {
                            return Poll::Ready(Some(Ended::Lapsed { doubt }));
                        }
                        Ok(Poll::Ready(attempt)) => attempt,
                        Err(why) => Attempt::InDoubt(why.into()),
                    };
                    let (attempts, waited) = (underway.attempts, underway.waited);
                    let Some(wait) = self.wait_after(step, direction, &attempt, attempts, waited)
                    else {
                        return Poll::Ready(Some(Ended::Attempt(attempt)));
                    };
                    let clock = &self.core.config.common.clock;
                    let sleep = Box::pin(clock.sleep(wait));
                    if let Some(underway) = self.underway.get_mut(at) {
                        underway.doubt |= matches!(attempt, Attempt::InDoubt(_));
                        if let Attempt::Failed(failure) | Attempt::InDoubt(failure) = attempt {
                            underway.error = Some(failure.why);
                        }
                        underway.waited = wait;
                        underway.phase = Phase::Waiting(sleep);
                    }
                    if wait.is_zero() {
                        if let Poll::Ready(ended) = self.next_attempt(at) {
                            return Poll::Ready(ended);
                        }
                    }
                }
                Phase::Waiting(sleep) => {
                    if self.core.is_shutting_down() {
                        return Poll::Ready(None);
                    }
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if let Poll::Ready(ended) = self.next_attempt(at) {
                        return Poll::Ready(ended);
                    }
                }
            }
        }
    }

    fn next_attempt(&mut self, at: usize) -> Poll<Option<Ended>> {
        let Some(underway) = self.underway.get(at) else { return Poll::Ready(None) };
        let (step, direction, doubt) = (underway.step, underway.direction, underway.doubt);
        let launch = Launch { step, direction, doubt };
        let Some(attempt) = self.attempt(launch, &underway.permit) else {
            return Poll::Ready(Some(Ended::Lapsed { doubt }));
        };
        if let Some(underway) = self.underway.get_mut(at) {
            underway.attempts += 1;
            underway.phase = Phase::Attempting(attempt);
        }
        Poll::Pending
    }

    /// Returns how long to wait for another attempt with the same key; `None` if there is none.
    fn wait_after(
        &self,
        step: u16,
        direction: Direction,
        attempt: &Attempt,
        attempts: u32,
        waited: Duration,
    ) -> Option<Duration> {
        let config = &self.core.config;
        let (failure, is_definite) = match attempt {
            Attempt::Done(_) | Attempt::Lapsed { .. } | Attempt::Stuck(_) => return None,
            Attempt::Failed(failure) => (failure, true),
            Attempt::InDoubt(failure) => (failure, false),
        };
        let definition = &self.core.definition.inner;
        let plan = definition.plan.steps.get(usize::from(step))?;
        let kind = plan.kind;
        // The child saga repeats its own steps.
        if plan.runs_child {
            return None;
        }
        let rules = &definition.steps.get(usize::from(step))?.rules;
        let retry = match (direction, kind) {
            (Direction::Undo, _) => rules.undo_retry.as_ref().unwrap_or(&config.undo_retry),
            // The action had no effect, so the saga can unwind.
            (_, Kind::Compensatable) => return None,
            (_, Kind::Pivot) if is_definite => return None,
            (_, Kind::Pivot | Kind::Retryable) => rules.run_again.as_ref().unwrap_or(&config.again),
        };
        retry.wait_after(attempts, waited, failure.hint, &config.common.rng)
    }

    /// Waits for `future`. The steps in progress continue during the wait.
    pub(in crate::saga) async fn beside<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let Ok(answer) = unless(future.as_mut(), |cx| {
            self.poll(cx);
            // Only `future` ends the wait. What progresses beside it has its wakers with `poll`.
            Poll::<Infallible>::Pending
        })
        .await;
        answer
    }
}

impl<I, F: Format, St> Drop for StepRuns<I, F, St> {
    fn drop(&mut self) {
        // Each drop is user code, and runs separately: a panic during another panic would end the
        // process.
        for underway in self.underway.drain(..) {
            let _ = caught(|| drop(underway));
        }
    }
}
