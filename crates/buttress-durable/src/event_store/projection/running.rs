//! The loop of a projection: one decision after the other, each with its effect.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use buttress::{Clock, StoreErrorKind};
use tokio::sync::watch;
use tower::BoxError;

use super::batch::{Batch, Handles};
use super::config::OnFailure;
use super::mode::Mode;
use super::shared::{Control, Shared};
use super::state::{Next, Progress};
use super::troubles::{Fault, Operation, Trouble, Troubles, ask};
use super::{Config, Projection};
use crate::answer::Answer;
use crate::caught::{catching, caught, unless};
use crate::causes::{WithCauses, find};
use crate::consume::Reason;
use crate::event_store::checkpoint::{Advance, ProjectionClaim, ProjectionLease};
use crate::event_store::log::Log;
use crate::event_store::recorded::{Ordered, Unreadable};
use crate::event_store::store::Store;
use crate::event_store::stream::Position;

pub(super) struct Running<St, H, M> {
    pub progress: Progress,
    pub troubles: Troubles,
    appended: watch::Receiver<u64>,
    control: watch::Receiver<Control>,
    resumes: u64,
    /// Whether an unknown projection is created. A rebuild creates its name once: a swap removes it.
    pub creates: bool,
    /// Whether the last answer was that another worker has the lease, or that the projection is unknown.
    pub is_refused: bool,
    // The last field: its drop reports the end of the projection.
    pub projection: Projection<St, H, M>,
}

impl<St, H, M> Running<St, H, M>
where
    St: Store,
    M: Mode<St>,
    H: Handles<M::Tx>,
{
    pub(super) fn new(projection: Projection<St, H, M>) -> Self {
        let now = projection.config.common.clock.now();
        let control = projection.shared.control.subscribe();
        let resumes = control.borrow().resumes;
        Self {
            progress: Progress::new(projection.config.rules(), now),
            troubles: Troubles::new(&projection.shared, &projection.config),
            appended: projection.log.subscribe(),
            resumes,
            creates: true,
            is_refused: false,
            control,
            projection,
        }
    }

    pub(super) async fn run(mut self) {
        while !self.is_shutting_down() {
            self.step().await;
        }
        self.release().await;
    }

    pub(super) fn is_shutting_down(&mut self) -> bool {
        self.control.borrow_and_update().is_shutting_down
    }

    /// Reads the commands of operators, makes one decision, and executes it.
    pub(super) async fn step(&mut self) {
        let now = self.clock().now();
        let Control { is_paused, resumes, .. } = *self.control.borrow();
        if std::mem::replace(&mut self.resumes, resumes) != resumes {
            self.progress.resume(now);
            self.projection.shared.numbers().stopped = None;
        }
        if self.projection.shared.wants_replay() {
            if let Some(has_lease) = self.progress.may_replay(is_paused, now) {
                return self.replay(has_lease).await;
            }
        }
        match self.progress.next(is_paused, now) {
            Next::Lease => self.lease().await,
            Next::Read(after) => self.read(after).await,
            Next::Handle { events, to } => {
                self.handle(events, to).await;
                // A store in memory answers without waiting, and other tasks need their turn.
                tokio::task::yield_now().await;
            }
            Next::Advance(to) => match self.advance(to).await {
                Ok(()) => self.handled(0, to),
                Err(trouble) => self.troubled(Operation::Commit, trouble),
            },
            Next::Wait(until) => self.wait(until).await,
        }
        let (checkpoint, is_leased) =
            (self.progress.checkpoint().get(), self.progress.lease().is_some());
        self.projection.shared.count(|stats| {
            stats.checkpoint = checkpoint;
            stats.is_leased = is_leased;
        });
    }

    /// Ends the lease.
    pub(super) async fn release(&mut self) {
        let Some(lease) = self.progress.lease().cloned() else { return };
        self.projection.shared.count(|stats| stats.is_leased = false);
        let clock = self.clock();
        let asking = || self.projection.log.store().release_projection(&lease);
        if let Err(error) = ask(&clock, "releasing a projection", asking).await {
            let name = &*lease.name;
            tracing::debug!(
                target: "buttress", projection = name, error = %WithCauses(&error),
                "the lease of a projection was not released; it ends by itself"
            );
        }
    }

    fn clock(&self) -> Clock {
        self.projection.config.common.clock.clone()
    }

    pub(super) async fn lease(&mut self) {
        let clock = self.clock();
        let (log, config) = (&self.projection.log, &self.projection.config);
        let claim =
            ProjectionClaim::new(&self.projection.name, self.projection.worker, config.lease);
        // A renewal creates nothing: an operator may have removed the projection.
        let creates = self.creates && self.progress.lease().is_none();
        let start = config.effects.start();
        let claim = if creates { claim.start(start) } else { claim.known_only() };
        let asking = || log.store().lease_projection(claim);
        match ask(&clock, Operation::Lease.doing(), asking).await {
            Ok(leased) => {
                self.troubles.worked(Operation::Lease);
                let had = self.progress.lease().map(|lease| lease.epoch);
                let has = leased.as_ref().map(|leased| leased.lease.epoch);
                let Shared { layer, name, .. } = &*self.projection.shared;
                if let (true, Some(leased)) = (has != had, &leased) {
                    let (layer, checkpoint) = (layer.as_str(), leased.checkpoint.get());
                    tracing::info!(
                        target: "buttress", layer, projection = &**name, checkpoint,
                        "the projection has its lease"
                    );
                }
                self.is_refused = leased.is_none();
                self.creates &= !self.progress.is_rebuilding();
                self.progress.leased(leased, clock.now());
            }
            Err(error) => self.troubled(Operation::Lease, Trouble::Store(error)),
        }
    }

    async fn read(&mut self, after: Position) {
        // Before the read: an append after it wakes the projection.
        self.appended.borrow_and_update();
        let (log, config) = (&self.projection.log, &self.projection.config);
        let clock = config.common.clock.clone();
        let answer = {
            // The wait for a place is not a wait for the store.
            let _place = log.place().await;
            let asking = || log.store().read_all(after, &config.filter, config.batch);
            ask(&clock, Operation::Read.doing(), asking).await
        };
        match answer {
            Ok(page) => {
                self.troubles.worked(Operation::Read);
                self.progress.read(page, clock.now());
            }
            Err(error) => match find::<Unreadable>(&error).cloned() {
                Some(unreadable) => self.unreadable(unreadable, error).await,
                None => self.troubled(Operation::Read, Trouble::Store(error)),
            },
        }
    }

    async fn handle(&mut self, events: usize, to: Position) {
        let (waiting, parked) = match self.park_held(events).await {
            Ok(sorted) => sorted,
            Err(error) => return self.troubled(Operation::Park, Trouble::Store(error)),
        };
        let handled = waiting.len() as u64;
        match self.call_or_advance(waiting, to).await {
            Ok(()) => {
                self.projection.shared.count(|stats| {
                    stats.handled += handled;
                    stats.batches += u64::from(handled > 0);
                    stats.parked += parked;
                });
                self.handled(events, to);
            }
            Err(Trouble::Handler(fault)) => self.failed(events, to, fault).await,
            Err(trouble) => self.troubled(Operation::Commit, trouble),
        }
    }

    /// Parks the first waiting events whose streams are held. Returns the events that remain, and how many were parked.
    async fn park_held(&mut self, events: usize) -> Answer<(Vec<Ordered>, u64)> {
        let waiting = self.progress.waiting(events);
        let config = self.projection.config.clone();
        let (OnFailure::Park, Some(letters)) = (config.on_failure, &config.letters) else {
            return Ok((waiting, 0));
        };
        let (name, clock) = (self.projection.name.clone(), &config.common.clock);
        let doing = Operation::Park.doing();
        let held = ask(clock, doing, || letters.held(&name, &waiting)).await?;
        let (mut rest, mut parked, now) = (Vec::with_capacity(waiting.len()), 0, clock.unix());
        for (ordered, is_held) in waiting.into_iter().zip(held) {
            if is_held {
                let why = "an earlier event of the stream is a dead letter";
                // Each one has its time, however many they are.
                ask(clock, doing, || letters.park(&name, &ordered, Reason::Parked, why, now))
                    .await?;
                parked += 1;
            } else {
                rest.push(ordered);
            }
        }
        Ok((rest, parked))
    }

    async fn call_or_advance(&mut self, events: Vec<Ordered>, to: Position) -> Result<(), Trouble> {
        if events.is_empty() {
            return self.advance(to).await;
        }
        let lease = self.progress.lease().cloned().ok_or(Trouble::Lost)?;
        let advance = Advance::new(lease, self.progress.checkpoint(), to);
        self.call(events, &advance).await
    }

    /// Calls the handler, and commits its transaction with the checkpoint.
    pub(super) async fn call(
        &mut self,
        events: Vec<Ordered>,
        advance: &Advance,
    ) -> Result<(), Trouble> {
        let lease = &advance.lease;
        let (log, config) = (self.projection.log.clone(), self.projection.config.clone());
        let (store, clock) = (log.store(), &config.common.clock);
        let tx = ask(clock, "beginning a transaction", || M::begin(store)).await?;
        let panicked = |panic| Trouble::Handler(Fault::new(format!("the handler {panic}")));
        let mut handler = caught(|| self.projection.handler.clone()).map_err(panicked)?;
        let shared = self.projection.shared.clone();
        let handling = async {
            let work = pin!(async move {
                poll_fn(|cx| handler.poll_ready(cx)).await.map_err(Into::into)?;
                handler.call(Batch { tx, events }).await.map_err(Into::into)
            });
            let limit = config.handler_timeout;
            let mut timer = pin!(clock.sleep(limit));
            let mut keeping = pin!(keep(&log, &config, &shared, lease));
            let late = || Fault::new(format!("the handler did not end within {limit:?}"));
            let ended: Result<_, BoxError> = unless(work, |cx| {
                if timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Trouble::Handler(late()));
                }
                keeping.as_mut().poll(cx).map(|()| Trouble::Lost)
            })
            .await?;
            ended
                .map_err(|error| Trouble::Handler(Fault::of(error, |error| store.is_outage(error))))
        };
        // Futures and errors of the handler may also panic when they are dropped.
        let handled = catching(pin!(handling)).await;
        let mut batch = handled.unwrap_or_else(|panic| Err(panicked(panic)))?;
        let doing = Operation::Commit.doing();
        let moved = ask(clock, doing, || M::advance(store, &mut batch.tx, advance)).await;
        moved.map_err(|error| Trouble::of_handler(error, StoreErrorKind::Invalid))?;
        let committed = ask(clock, "committing a transaction", || M::commit(store, batch.tx)).await;
        // A constraint that is checked at the commit.
        committed.map_err(|error| Trouble::of_handler(error, StoreErrorKind::Conflict))
    }

    /// Moves the checkpoint without a call of the handler.
    pub(super) async fn advance(&mut self, to: Position) -> Result<(), Trouble> {
        let lease = self.progress.lease().cloned().ok_or(Trouble::Lost)?;
        let advance = Advance::new(lease, self.progress.checkpoint(), to);
        let clock = self.clock();
        let asking = || self.projection.log.store().advance_projection(&advance);
        Ok(ask(&clock, Operation::Commit.doing(), asking).await?)
    }

    pub(super) fn handled(&mut self, events: usize, to: Position) {
        self.troubles.worked(Operation::Commit);
        self.progress.handled(events, to);
    }

    /// Records that the store failed, or that another worker owns the projection.
    pub(super) fn troubled(&mut self, operation: Operation, trouble: Trouble) {
        match self.troubles.failed(operation, trouble) {
            Some(at) => self.progress.troubled(at),
            None => self.progress.fenced(self.clock().now()),
        }
    }

    /// Waits until an instant, an append, or a command of an operator.
    async fn wait(&mut self, until: Option<Instant>) {
        let clock = self.clock();
        let woken = {
            let mut timer = pin!(async {
                match until {
                    Some(until) => clock.sleep_until(until).await,
                    None => std::future::pending().await,
                }
            });
            let mut appended = pin!(self.appended.changed());
            let mut control = pin!(self.control.changed());
            poll_fn(|cx| {
                if appended.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                if control.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(false);
                }
                timer.as_mut().poll(cx).map(|()| false)
            })
            .await
        };
        if woken {
            self.progress.woken(clock.now());
        }
    }
}

/// Renews the lease while the handler runs. Ends when another worker owns the projection.
async fn keep<St: Store>(
    log: &Log<St>,
    config: &Arc<Config>,
    shared: &Arc<Shared>,
    lease: &ProjectionLease,
) {
    let clock = &config.common.clock;
    loop {
        clock.sleep(config.lease / 3).await;
        let claim = ProjectionClaim::new(&shared.name, lease.worker, config.lease).known_only();
        let asking = || log.store().lease_projection(claim);
        // A store that does not answer may hold the lock of this transaction. The fence decides at the commit.
        let answer = ask(clock, Operation::Lease.doing(), asking).await;
        if answer.is_ok_and(|renewed| renewed.is_none_or(|renewed| renewed.lease != *lease)) {
            return;
        }
    }
}
