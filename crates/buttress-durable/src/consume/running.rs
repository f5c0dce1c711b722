//! The loop of a consumer: take in results, ask and notify the transport, start handlers, wait, repeat.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use buttress::{Classify, Sleep, StoreError};

use super::consumer::Consumer;
use super::dead_letters::DeadLetters;
use super::delivery::Delivery;
use super::handling::{failed, handle};
use super::letter::Replay;
use super::replays::Replays;
use super::source::{Answer, Batch, Source};
use super::state::{Became, EntryId, Lanes, Outcome, Took, Work};
use crate::caught::{catching, caught};
use crate::causes::WithCauses;
use crate::instant;
use crate::serves::Serves;
use crate::unordered::Unordered;

mod dead_letters;
mod keeping;
mod troubles;

use dead_letters::{Job, LEASE};
use keeping::Keeping;
use troubles::{Operation, Troubles, persist};

/// The most rounds of one poll, before other tasks get a turn.
const ROUNDS: usize = 32;
/// The time for the last settle call of a consumer that ends.
const LAST_CALL: Duration = Duration::from_secs(5);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(super) struct Running<Src: Source, H, C, D> {
    lanes: Lanes<Src::Token>,
    handlers: Unordered<dyn Future<Output = (EntryId, Outcome)> + Send>,
    jobs: Unordered<dyn Future<Output = Job> + Send>,
    receiving: Option<Boxed<Batch<Src::Token>>>,
    settling: Option<Boxed<Vec<Answer>>>,
    /// Signs of life of messages. `None` if the transport needs none.
    keeping: Option<Keeping>,
    /// Renewals of the claims on letters.
    renewing: Keeping,
    /// The room that was last passed to the source.
    wanted: Option<usize>,
    /// Letters that operators want replayed.
    replays: Replays,
    /// The claims that are being released.
    releasing: Arc<Vec<Replay>>,
    /// Whether letters are being claimed.
    claiming: bool,
    /// The room that is kept for the letters that are being claimed.
    promised: usize,
    /// Whether a future was made that was not polled yet.
    fresh: bool,
    /// `None` if the transport makes no letters with a due time.
    next_due: Option<Instant>,
    /// When the drain is over. `None` before the shutdown.
    drained_at: Option<Instant>,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    troubles: Arc<Troubles>,
    // The last field: its drop reports the end of the consumer, and all other fields must be dropped before.
    consumer: Consumer<Src, H, C, D>,
}

impl<Src, H, C, D> Running<Src, H, C, D>
where
    Src: Source,
    H: Serves<Delivery>,
    C: Classify<H::Response, H::Error> + Clone + Send + Sync + 'static,
    D: DeadLetters,
{
    pub(super) fn new(consumer: Consumer<Src, H, C, D>) -> Self {
        let limits = consumer.source.limits();
        let rules = consumer.config.rules(&limits);
        consumer.source.announce_capacity(rules.capacity);
        let now = consumer.config.common.clock.now();
        Self {
            lanes: Lanes::new(rules),
            handlers: Unordered::new(),
            jobs: Unordered::new(),
            receiving: None,
            settling: None,
            keeping: limits.keep.map(|keep| Keeping::new(keep / 2)),
            renewing: Keeping::new(LEASE / 3),
            wanted: None,
            replays: Replays::new(rules.by_key),
            releasing: Arc::default(),
            claiming: false,
            promised: 0,
            fresh: false,
            next_due: limits.hold.map(|_| now),
            drained_at: None,
            timer: None,
            troubles: Arc::new(Troubles::new(&consumer)),
            consumer,
        }
    }

    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        // A future of the source may panic when it is dropped.
        let _panic = caught(|| self.receiving = None);
        let _panic = caught(|| self.keeping = None);
        self.release_all().await;
        let source = self.consumer.source.clone();
        let closing = async { Operation::Close.answer(source.close()).await };
        if let Err(error) = self.troubles.bounded(Operation::Close, closing).await {
            let layer = self.consumer.shared.layer.as_str();
            tracing::warn!(target: "buttress", layer, error = %WithCauses(&error), "the consumer did not leave its group");
        }
    }

    /// Does everything that can be done now. Ready when the consumer has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let now = self.consumer.config.common.clock.now();
            self.obey(cx, now);
            self.lanes.wake(now);
            let progressed = self.take_in(cx, now);
            self.begin(now);
            self.publish_numbers();
            if self.has_ended(now) {
                return Poll::Ready(());
            }
            // A future that was not polled yet would not wake this task.
            let fresh = std::mem::take(&mut self.fresh);
            if !progressed && !fresh && self.poll_timer(cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes in the wishes of operators.
    fn obey(&mut self, cx: &Context<'_>, now: Instant) {
        let mut control = self.consumer.shared.control();
        match &mut control.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        let (paused, shutting_down) = (control.paused, control.shutting_down);
        let requests = std::mem::take(&mut control.replays);
        drop(control);
        self.lanes.pause(paused);
        for request in requests {
            if shutting_down {
                let error =
                    StoreError::transient("replaying dead letters: the consumer shuts down");
                // The operator may not wait any more.
                let _gone = request.answer.send(Err(error));
            } else {
                self.list(request);
            }
        }
        match self.drained_at {
            None if shutting_down => {
                self.drained_at = Some(instant::after(now, self.consumer.config.drain));
                self.replays.clear();
                self.lanes.drain();
            }
            Some(at)
                if at <= now && (self.lanes.running() > 0 || !self.lanes.is_settling_only()) =>
            {
                self.handlers.clear();
                self.jobs.clear();
                let _panic = caught(|| self.settling = None);
                self.lanes.abandon();
            }
            _ => {}
        }
    }

    /// Takes in everything that has ended. Returns whether anything has.
    fn take_in(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progressed = false;
        while let Poll::Ready((id, outcome)) = self.handlers.poll_next(cx) {
            self.ended(id, outcome, now);
            progressed = true;
        }
        while let Poll::Ready(job) = self.jobs.poll_next(cx) {
            self.finish(job, now);
            progressed = true;
        }
        if let Some(batch) = take_ready(&mut self.receiving, cx) {
            self.received(batch, now);
            progressed = true;
        }
        if let Some(answers) = take_ready(&mut self.settling, cx) {
            let late = self.lanes.settled(&answers);
            self.consumer.shared.control().stats.late += late;
            progressed = true;
        }
        for keeping in self.keeping.iter_mut().chain([&mut self.renewing]) {
            if let Some(lost) = keeping.poll(cx) {
                let lost = self.lanes.lost(&lost);
                self.consumer.shared.control().stats.revoked += lost as u64;
                progressed = true;
            }
        }
        progressed
    }

    fn received(&mut self, batch: Batch<Src::Token>, now: Instant) {
        // The source counts its deliveries against the room that was passed to it.
        self.wanted = None;
        let lost = batch.lost;
        if let Some(keeping) = self.keeping.as_mut().filter(|_| !batch.messages.is_empty()) {
            keeping.start(now);
        }
        let Took { new, joined, forgotten } = self.lanes.receive(batch);
        let mut control = self.consumer.shared.control();
        control.stats.received += new as u64;
        control.stats.joined += joined as u64;
        control.stats.revoked += forgotten as u64;
        control.stats.lost += lost;
        drop(control);
        if lost > 0 {
            let (layer, source) =
                (self.consumer.shared.layer.as_str(), self.consumer.source.name());
            tracing::error!(
                target: "buttress", layer, source, lost,
                "the transport has lost messages: it names them and has no content"
            );
        }
    }

    fn ended(&mut self, id: EntryId, outcome: Outcome, now: Instant) {
        let config = self.consumer.config.clone();
        let why = match &outcome {
            Outcome::Done => String::new(),
            Outcome::Failed { error, .. } | Outcome::Dead { error, .. } => error.clone(),
        };
        let became = self.lanes.ended(now, id, outcome, |attempts| {
            // The last wait is not kept. Decorrelated jitter then begins from its start.
            config.backoff.delay(attempts.saturating_sub(1), Duration::ZERO, &config.common.rng)
        });
        let layer = self.consumer.shared.layer.as_str();
        let mut control = self.consumer.shared.control();
        match became {
            Became::Done => control.stats.handled += 1,
            Became::Resting => control.stats.retried += 1,
            Became::Gone => control.stats.revoked += 1,
            // Counted with those that no handler has seen.
            Became::Dead | Became::Back => {}
        }
        drop(control);
        if became != Became::Dead && !why.is_empty() {
            tracing::debug!(target: "buttress", layer, error = why, "an attempt failed");
        }
    }

    /// Starts everything that may start.
    fn begin(&mut self, now: Instant) {
        while let Some(work) = self.lanes.next() {
            match work {
                Work::Handle { id, content, attempt, replays } => {
                    self.call(id, Delivery { content, attempt, replays }, now);
                }
                other => self.write(other),
            }
        }
        self.leave_out();
        self.release();
        self.claim(now);
        if self.settling.is_none() && self.lanes.has_settles() {
            self.fresh = true;
            let (source, call) = (self.consumer.source.clone(), Arc::new(self.lanes.settle()));
            self.settling = Some(persist(&self.troubles, Operation::Settle, move || {
                let (source, call) = (source.clone(), call.clone());
                async move { Operation::Settle.answer(source.settle(&call)).await }
            }));
        }
        self.keep(now);
        let room = self.lanes.room().saturating_sub(self.promised);
        if self.wanted != Some(room) {
            self.wanted = Some(room);
            self.consumer.source.want(room);
        }
        if self.receiving.is_none() && self.drained_at.is_none() {
            self.fresh = true;
            let source = self.consumer.source.clone();
            self.receiving = Some(persist(&self.troubles, Operation::Receive, move || {
                let source = source.clone();
                async move { Operation::Receive.answer(source.receive()).await }
            }));
        }
    }

    fn call(&mut self, id: EntryId, delivery: Delivery, now: Instant) {
        self.fresh = true;
        let consumer = &self.consumer;
        let copy = || (consumer.handler.clone(), consumer.classify.clone());
        match caught(copy) {
            Ok((handler, classify)) => {
                let config = consumer.config.clone();
                self.handlers.push(Box::pin(async move {
                    let judged = OnceLock::new();
                    let handling = handle(handler, classify, delivery, config, &judged);
                    // Responses, errors and futures of the handler may panic when they are dropped.
                    let panic = catching(pin!(handling)).await.err().unwrap_or_default();
                    let outcome = judged.into_inner();
                    (id, outcome.unwrap_or_else(|| failed(format!("the handler {panic}"))))
                }));
            }
            Err(panic) => self.ended(id, failed(format!("the handler {panic}")), now),
        }
    }

    fn publish_numbers(&mut self) {
        let (running, held) = (self.lanes.running() as u64, self.lanes.held() as u64);
        let ends = self.lanes.take_ends();
        let mut control = self.consumer.shared.control();
        control.stats.dead += ends.dead;
        control.stats.returned += ends.returned;
        control.stats.revoked += ends.revoked;
        (control.stats.running, control.stats.held) = (running, held);
    }

    /// Whether the drain is over.
    fn has_ended(&self, now: Instant) -> bool {
        let Some(drained_at) = self.drained_at else { return false };
        if self.lanes.held() == 0 && self.settling.is_none() {
            return true;
        }
        let over = instant::after(drained_at, LAST_CALL) <= now;
        if over {
            let (layer, held) = (self.consumer.shared.layer.as_str(), self.lanes.held());
            tracing::warn!(
                target: "buttress", layer, held,
                "the consumer ends without an answer of the transport, which delivers the messages again"
            );
        }
        over
    }

    /// Ready when the next deadline has passed.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let keep = self.keeping.as_ref().and_then(Keeping::at);
        // Without room no letter is claimed, and the timer would be ready immediately, again and again.
        let claims = self.drained_at.is_none() && !self.claiming && self.lanes.room() > 0;
        let due = self.next_due.filter(|_| claims);
        let now = self.consumer.config.common.clock.now();
        let last =
            self.drained_at.map(|at| if at > now { at } else { instant::after(at, LAST_CALL) });
        let times = [self.lanes.next_attempt(), keep, self.renewing.at(), due, last];
        let Some(next) = times.into_iter().flatten().min() else {
            self.timer = None;
            return Poll::Pending;
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next) {
            self.timer =
                Some((next, Box::pin(self.consumer.config.common.clock.sleep_until(next))));
        }
        match &mut self.timer {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Polls a future that may be there, and takes it out when it is ready.
fn take_ready<T>(place: &mut Option<Boxed<T>>, cx: &mut Context<'_>) -> Option<T> {
    match place.as_mut()?.as_mut().poll(cx) {
        Poll::Ready(value) => {
            *place = None;
            Some(value)
        }
        Poll::Pending => None,
    }
}
