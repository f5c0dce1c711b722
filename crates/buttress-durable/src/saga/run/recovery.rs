//! Taking over the sagas of workers that crashed.

use std::future::Future;
use std::time::{Duration, Instant};

use buttress::context::Context;
use buttress::{Codec, Format, StoreError, StoreErrorKind};

use crate::answer::Answer;
use crate::caught::caught;
use crate::causes::WithCauses;
use crate::instant;
use crate::saga::define::needs::Outputs;
use crate::saga::define::signal::UNLIMITED;
use crate::saga::error::SagaError;
use crate::saga::history::Histories;
use crate::saga::model::entry::{Entry, Status};
use crate::saga::model::plan::{Kind, OnCrash};
use crate::saga::model::state::{State, Step};
use crate::saga::reasons::Reasons;
use crate::saga::run::counters::Counter;
use crate::saga::run::drive::Run;
use crate::saga::run::execution::Execution;
use crate::saga::run::executor::Executor;
use crate::saga::run::origin;
use crate::saga::run::slots::Turn;
use crate::saga::run::step_runs::StepRuns;
use crate::saga::store::{Record, SagaId, Store, Summary, TakeOver, TakenOver};

/// The result of [`Executor::recover`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Sagas that run on this executor again.
    pub resumed: Vec<SagaId>,
    /// Sagas that cannot be resumed: their logs cannot be read, or they were started with other
    /// steps.
    ///
    /// They stay unchanged. Other workers can take over these sagas when this worker has shut down.
    pub left: Vec<SagaError>,
    /// Up to 100 sagas of other versions of the definition that no executor seems to run: running and unwinding
    /// sagas that no live worker owns, and [waiting](Status::Waiting) sagas that have been due for
    /// [`OVERDUE`](crate::saga::OVERDUE).
    ///
    /// They stay unchanged until an executor [also runs](Executor::also_run) their version, or
    /// [migrates](Executor::migrate) them. The executor logs each version once.
    ///
    /// An empty list does not mean that all sagas of an old version have ended. Sagas of a live worker, sagas
    /// whose wait is not over and [stuck](Status::Stuck) sagas are not in it. [`Executor::list`] finds them.
    pub other_versions: Vec<Summary>,
}

/// A run that is about to continue a saga, with its first entries and its context.
type Prepared<I, F, St> = (Run<I, F, St>, Execution, Vec<Entry<<F as Format>::Encoded>>, Context);

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Takes over every unfinished saga of this definition whose worker has no live lease, and
    /// resumes it.
    ///
    /// Call it when a process starts, and again from time to time, or use
    /// [`keep_recovering`](Self::keep_recovering). It also resumes every saga that this executor
    /// owns in the store and does not run. Such a saga is left after a take-over whose answer was
    /// lost, a start that failed although it was stored, or a task that died.
    ///
    /// Covers the versions of the definition that [also run](Self::also_run) here. Leaves sagas of other versions
    /// and stuck sagas unchanged.
    ///
    /// # Errors
    /// Returns the error of the store. Sagas that were taken over before the error run.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call resumes sagas that the store has handed over and
    /// that do not run yet.
    pub async fn recover(&self) -> Result<Recovery, StoreError> {
        let mut recovery = Recovery::default();
        self.recover_into(&mut recovery).await?;
        self.find_others(&mut recovery).await?;
        Ok(recovery)
    }

    /// Resumes the sagas of this version, and of the versions that also run here.
    pub(in crate::saga) async fn recover_into(
        &self,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        let core = &self.core;
        // Bounded as a whole, because several callers wait for each other.
        let alone = async { Ok(core.recovering.lock().await) };
        let alone = core.ask("waiting for another recovery", alone).await?;
        core.ask("taking a lease", core.begin_live_lease()).await?;
        self.take_sagas(recovery).await?;
        self.take_due(recovery).await?;
        self.adopt(recovery).await?;
        drop(alone);
        for other in core.versions() {
            other.recover_into(recovery).await?;
        }
        Ok(())
    }

    /// Takes over the sagas whose worker has no live lease.
    pub(in crate::saga) async fn take_over(
        &self,
        recovery: &mut Recovery,
    ) -> Result<(), StoreError> {
        let core = &self.core;
        // Bounded as a whole, because several callers wait for each other.
        let alone = async { Ok(core.recovering.lock().await) };
        let _alone = core.ask("waiting for another recovery", alone).await?;
        core.ask("taking a lease", core.begin_live_lease()).await?;
        self.take_sagas(recovery).await
    }

    async fn take_sagas(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let version = (definition.name.as_str(), definition.version);
        let all = || usize::MAX;
        self.take_pages(recovery, Counter::Resumed, "taking sagas over", all, |limit| {
            core.store.take_abandoned(TakeOver::new(core.lease.worker, version, limit))
        })
        .await
        .map(drop)
    }

    /// Takes sagas, a page at a time, and resumes them. Asks `room` before each page how many it may take. Returns
    /// whether the store has no more.
    pub(in crate::saga) async fn take_pages<T>(
        &self,
        recovery: &mut Recovery,
        counter: Counter,
        what: &str,
        room: impl Fn() -> usize + Send,
        take: impl Fn(usize) -> T + Send,
    ) -> Result<bool, StoreError>
    where
        T: Future<Output = Answer<TakenOver<F::Encoded>>> + Send,
    {
        const AT_ONCE: usize = 100;
        let core = &self.core;
        while !core.is_shutting_down() {
            let limit = room().min(AT_ONCE);
            if limit == 0 {
                return Ok(false);
            }
            let found = core.ask(what, take(limit)).await?;
            let last = found.sagas.len() < limit;
            for (saga, why) in found.corrupt {
                recovery.left.push(SagaError::Corrupt { saga, why });
            }
            for record in found.sagas {
                self.resume_found(record, recovery, counter);
            }
            if last {
                break;
            }
        }
        Ok(true)
    }

    /// Resumes sagas that this worker owns and that do not run here.
    async fn adopt(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        let core = &self.core;
        let (definition, worker) = (&core.definition.inner, core.lease.worker);
        let name = definition.name.as_str();
        let asking = core.store.owned(worker, name, definition.version);
        for id in core.ask("listing sagas of this worker", asking).await? {
            if core.is_shutting_down() {
                break;
            }
            if core.left().contains(&id) {
                continue;
            }
            // Sagas that run here, or are being started, taken or resumed, are skipped.
            let Some(_reserved) = core.reserve(id) else { continue };
            match core.ask("taking a saga", core.store.take_saga(worker, id)).await {
                // An operator must decide about a stuck saga.
                Ok(Some(record)) if record.status != Status::Stuck => {
                    self.resume_found(record, recovery, Counter::Resumed);
                }
                Ok(_) => {}
                Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                    core.left().insert(id);
                    recovery.left.push(SagaError::Corrupt { saga: id, why: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn resume_found(&self, record: Record<F::Encoded>, recovery: &mut Recovery, counter: Counter) {
        let id = record.id;
        // This worker took the saga over from itself, after a pause longer than a lease. The old
        // run finds itself fenced, and then the saga continues under its new epoch.
        if self.core.active().contains_key(&id) {
            self.resume_later(record, counter);
            recovery.resumed.push(id);
            return;
        }
        match self.resume(record, Vec::new(), Turn::Later, counter) {
            // No caller waits for its report.
            Ok(execution) => {
                drop(execution);
                recovery.resumed.push(id);
            }
            Err(error) => {
                self.core.left().insert(id);
                recovery.left.push(error);
            }
        }
    }

    /// Resumes a saga once its old run here has ended.
    fn resume_later(&self, record: Record<F::Encoded>, counter: Counter) {
        let executor = self.clone();
        let reserved = self.core.reserve_again(record.id);
        self.core.config.common.spawner.spawn(async move {
            let _reserved = reserved;
            let core = &executor.core;
            loop {
                let ended = core.idle.notified();
                if !core.active().contains_key(&record.id) {
                    break;
                }
                ended.await;
            }
            if core.is_shutting_down() {
                return;
            }
            if let Err(error) = executor.resume(record, Vec::new(), Turn::Later, counter) {
                let layer = core.config.layer().as_str();
                tracing::error!(target: "buttress", layer, error = %WithCauses(&error), "the executor could not resume a saga");
            }
        });
    }

    /// Resumes a saga from its log, after an operator's `decision`.
    pub(in crate::saga) fn resume(
        &self,
        record: Record<F::Encoded>,
        decision: Vec<Entry<F::Encoded>>,
        turn: Turn,
        counter: Counter,
    ) -> Result<Execution, SagaError> {
        let (mut run, execution, first, context) = self.prepare(record, decision)?;
        self.core.counters.add(counter);
        run.turn.counted = (turn == Turn::Later).then(|| self.core.resumed.token());
        let running = run.drive_in_turn(first, turn);
        self.core.config.common.spawner.spawn(context.scope(running));
        Ok(execution)
    }

    /// Reads the log of a saga that this worker owns. Returns the run that continues it, and the first entries of the
    /// run.
    pub(in crate::saga) fn prepare(
        &self,
        record: Record<F::Encoded>,
        decision: Vec<Entry<F::Encoded>>,
    ) -> Result<Prepared<I, F, St>, SagaError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let saga = record.id;
        let corrupt = |why: String| SagaError::Corrupt { saga, why };
        self.check_definition(&record)?;
        let state = State::fold(definition.steps.len(), &record.entries).map_err(corrupt)?;
        let input = caught(|| definition.codec.decode(&record.beginning.input));
        let input = input.and_then(|input| input.map_err(|error| error.to_string()));
        let input = input.map_err(|why| corrupt(format!("input: {why}")))?;
        let outputs = self.outputs_of(saga, record.entries.iter().chain(&decision))?;
        let mut first = decision;
        first.extend(self.again(&state));
        let (signals, times): (Vec<_>, Vec<_>) =
            state.waits.iter().copied().partition(|(step, _)| definition.takes_signal(*step));
        first.extend(times.iter().map(|(step, length)| self.wait_again(&record, *step, *length)));
        let deadline = record.deadline.map(|deadline| self.deadline(deadline));
        let position = record.entries.len() as u64;
        let step_runs = StepRuns::new(core.clone(), saga, input, outputs, deadline);
        let (run, execution) = self.run(saga, record.epoch, step_runs, state, position);
        let Some(mut run) = run else {
            // This worker took the saga over from itself. The old run will find itself fenced.
            let why = "the saga still runs on this executor under an older epoch".to_owned();
            return Err(SagaError::NotPossible { saga, why });
        };
        run.histories = Histories::of(definition.steps.len(), &record.entries, &record.times);
        run.reasons = Reasons::of(&record.entries);
        run.signals.is_stale = record.signals > 0 && definition.plan.has_signals;
        let now = core.config.common.clock.now();
        for (step, length) in signals.into_iter().filter(|(_, length)| *length < UNLIMITED) {
            run.alarms.push((step, instant::after(now, self.left_of(&record, step, length))));
        }
        for entry in &record.entries {
            run.note(entry);
        }
        if record.cancel_requested {
            run.control.cancel();
        }
        Ok((run, execution, first, origin::of_log(&record.beginning)))
    }

    /// Decodes the outputs in a log.
    pub(in crate::saga) fn outputs_of<'a>(
        &self,
        saga: SagaId,
        entries: impl IntoIterator<Item = &'a Entry<F::Encoded>>,
    ) -> Result<Outputs, SagaError>
    where
        F::Encoded: 'a,
    {
        let definition = &self.core.definition.inner;
        let mut outputs = Outputs::new(definition.steps.len());
        for (position, entry) in entries.into_iter().enumerate() {
            outputs.set_waited(entry, definition);
            let code = definition.steps.get(usize::from(entry.step()));
            if let (Some(payload), Some(code)) = (entry.payload(), code) {
                let output = caught(|| (code.decode)(&definition.codec, payload));
                let output = output.and_then(|output| output.map_err(|error| error.to_string()));
                let output = output.map_err(|why| SagaError::Corrupt {
                    saga,
                    why: format!("entry {position}: {why}"),
                })?;
                outputs.set(entry.step(), Some(output));
            }
        }
        Ok(outputs)
    }

    /// Returns the first entries of a new owner: the steps that the old owner had in progress.
    fn again(&self, state: &State) -> Vec<Entry<F::Encoded>> {
        let plan = &self.core.definition.inner.plan;
        let steps = (0u16..).zip(&state.steps).zip(&plan.steps);
        steps
            .filter_map(|((step, now), plan)| match now {
                Step::Acting
                    if plan.on_crash == OnCrash::Undo && plan.kind == Kind::Compensatable =>
                {
                    let why = Some("the worker crashed".to_owned());
                    Some(Entry::ActionInDoubt { step, why })
                }
                Step::Acting => Some(Entry::ActionStarted { step }),
                Step::Undoing { .. } => Some(Entry::UndoStarted { step }),
                _ => None,
            })
            .collect()
    }

    pub(in crate::saga) fn check_definition(
        &self,
        record: &Record<F::Encoded>,
    ) -> Result<(), SagaError> {
        let definition = &self.core.definition.inner;
        let shape = record.beginning.shape.as_deref();
        let (name, version) = (definition.name.as_str(), definition.version);
        let same = (record.definition.as_str(), record.version) == (name, version)
            && record.codec == F::NAME
            && shape.is_none_or(|shape| shape == definition.shape);
        if same {
            return Ok(());
        }
        if record.definition == name && record.version != version {
            return Err(self.other_version(record.id, record.version));
        }
        Err(SagaError::DefinitionChanged {
            saga: record.id,
            recorded: format!(
                "{} version {} ({}) {}",
                record.definition,
                record.version,
                record.codec,
                shape.unwrap_or_default()
            ),
            known: format!("{name} version {version} ({}) {}", F::NAME, definition.shape),
        })
    }

    /// Converts a deadline from wall time to an instant, at most the configured length from now.
    /// The wall clock may have been set back, or the row may be damaged.
    fn deadline(&self, unix: Duration) -> Instant {
        let config = &self.core.config;
        let left = unix.saturating_sub(config.common.clock.unix());
        let left = config.deadline.map_or(left, |longest| left.min(longest));
        instant::after(config.common.clock.now(), left)
    }
}
