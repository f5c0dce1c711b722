//! Projections on the store in memory.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use buttress::Clock;
use buttress::health::{Finding, Watch};
use buttress::retry::Backoff;
use tower::{BoxError, service_fn};

use super::super::*;
use super::faulty::{Fate, Faulty};
use crate::outbox::MessageId;

/// The read model: the positions that took effect, in their order, and the sum of the numbers of each stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model {
    pub positions: Vec<u64>,
    sums: BTreeMap<String, u64>,
}

impl Model {
    fn apply(&mut self, ordered: &Ordered) {
        self.positions.push(ordered.position.get());
        let sum = self.sums.entry(ordered.event.stream.to_string()).or_default();
        // Not commutative: the order counts.
        *sum = *sum * 3 + u64::from(ordered.event.data.first().copied().unwrap_or_default());
    }
}

pub(super) type Shared = Arc<Mutex<Model>>;

/// The fold over the log.
pub(super) async fn fold(store: &MemoryStore) -> Model {
    let page = store.read_all(Position::START, &Filter::all(), usize::MAX).await.unwrap();
    let mut model = Model::default();
    page.events.iter().for_each(|ordered| model.apply(ordered));
    model
}

pub(super) fn memory() -> MemoryStore {
    MemoryStore::new(Clock::default())
}

/// Appends `many` events to three streams.
pub(super) async fn fill(store: &MemoryStore, many: u8) {
    for number in 0..many {
        append(store, number).await;
    }
}

pub(super) async fn append(store: &MemoryStore, number: u8) {
    let id = MessageId::random(&buttress::Rng::default());
    let event = NewEvent::new(id, format!("kind-{}", number % 2), vec![number]);
    let stream = StreamId::new("order", (number % 3).to_string());
    store.append_batch(&NewBatch::new(stream, Expected::Any, vec![event])).await.unwrap();
}

/// What the handler does about an event before it takes effect.
pub(super) type Judge = Arc<dyn Fn(&Ordered) -> Result<(), BoxError> + Send + Sync>;

pub(super) fn approve() -> Judge {
    Arc::new(|_| Ok(()))
}

/// A handler that writes the model in its transaction, and lets other tasks run between events.
pub(super) fn handler(model: &Shared, judge: Judge) -> impl Handles<MemoryTransaction> + use<> {
    let model = model.clone();
    service_fn(move |mut batch: Batch<MemoryTransaction>| {
        let (model, judge) = (model.clone(), judge.clone());
        async move {
            let (tx, events) = batch.parts();
            for ordered in events {
                judge(ordered)?;
                tokio::task::yield_now().await;
                let (model, ordered) = (model.clone(), ordered.clone());
                tx.on_commit(move || model.lock().unwrap().apply(&ordered));
            }
            Ok::<_, BoxError>(batch)
        }
    })
}

pub(super) fn config() -> Config {
    let backoff = Backoff::fixed(Duration::from_millis(200));
    Config::new().batch(4).retry(3, backoff)
}

/// Waits until `is_true`.
pub(super) async fn until(is_true: impl Fn() -> bool) {
    let clock = Clock::default();
    while !is_true() {
        clock.sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn model() -> Shared {
    Shared::default()
}

pub(super) fn positions(model: &Shared) -> Vec<u64> {
    model.lock().unwrap().positions.clone()
}

#[tokio::test(start_paused = true)]
async fn a_projection_follows_the_log_and_an_append_wakes_it() {
    let (store, model) = (memory(), model());
    let log = Log::new(store.clone());
    let config = config().poll(Duration::from_secs(3600));
    let projection = Projection::new("list", &log, handler(&model, approve()), config).unwrap();
    let handle = projection.in_transaction().spawn();
    fill(&store, 10).await;
    until(|| handle.stats().checkpoint == 10).await;
    let clock = Clock::default();
    let before = clock.now();
    let event = NewEvent::new(MessageId::new(1), "kind", vec![7]);
    let batch = NewBatch::new(StreamId::new("order", "9"), Expected::New, vec![event]);
    log.append(&batch).await.unwrap();
    until(|| handle.stats().checkpoint == 11).await;
    assert!(clock.now() - before < Duration::from_millis(50), "woken, and not polled");
    handle.shut_down().await;
    assert_eq!(fold(&store).await, *model.lock().unwrap());
    let stats = handle.stats();
    assert_eq!((stats.handled, stats.failed, stats.fenced), (11, 0, 0));
    assert!(handle.has_ended());
    let state = store.projections().await.unwrap().remove(0);
    assert_eq!((state.lag, state.is_leased), (0, false), "it has released its lease");
}

#[tokio::test(start_paused = true)]
async fn events_6_7_a_projection_killed_anywhere_has_the_fold_of_the_log() {
    let mut kills = 0;
    for point in 0.. {
        let (store, model) = (memory(), model());
        fill(&store, 7).await;
        // The second commit works, but its answer is lost; the third does not work.
        let fates = [Fate::Works, Fate::AnswerLost, Fate::Lost];
        let slow = Faulty::new(store.clone(), []).commits(fates);
        let log = Log::new(slow);
        let make = || {
            let handler = handler(&model, approve());
            Projection::new("list", &log, handler, config()).unwrap().in_transaction()
        };
        let first = make();
        let handle = first.handle();
        let killed = {
            let mut run = pin!(first.run());
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls > point || handle.stats().checkpoint == 7 {
                    return Poll::Ready(polls > point);
                }
                let _pending = run.as_mut().poll(cx);
                Poll::Pending
            })
            .await
        };
        fill(&store, 2).await;
        let second = make().spawn();
        until(|| second.stats().checkpoint == 9).await;
        second.shut_down().await;
        assert_eq!(fold(&store).await, *model.lock().unwrap(), "killed at poll {point}");
        kills += u64::from(killed);
        if !killed {
            break;
        }
    }
    assert!(kills > 30, "{kills} points");
}

#[tokio::test(start_paused = true)]
async fn events_6_8_two_instances_share_one_lease_and_the_late_one_is_fenced() {
    let (store, model) = (memory(), model());
    fill(&store, 3).await;
    let log = Log::new(store.clone());
    let make = |handler| Projection::new("list", &log, handler, config()).unwrap().in_transaction();
    let first = make(handler(&model, approve()));
    let one = first.handle();
    let mut run = pin!(first.run());
    // The first instance is not polled any more when its handler is about to end.
    for _ in 0..3 {
        poll_once(run.as_mut()).await;
    }
    assert!(one.stats().is_leased);
    let second = make(handler(&model, approve())).spawn();
    until(|| second.stats().checkpoint == 3).await;
    assert_eq!(positions(&model), [1, 2, 3]);
    // It continues, and its commit comes too late.
    while one.stats().fenced == 0 || one.stats().is_leased {
        poll_once(run.as_mut()).await;
    }
    assert_eq!(positions(&model), [1, 2, 3], "rolled back");
    assert!(!one.stats().is_leased && second.stats().is_leased);
    assert_eq!((one.stats().handled, second.stats().handled), (0, 3));
    // The lease of an instance that ends is free immediately.
    second.shut_down().await;
    append(&store, 9).await;
    while one.stats().checkpoint < 4 {
        poll_once(run.as_mut()).await;
        Clock::default().sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(positions(&model), [1, 2, 3, 4]);
}

async fn poll_once(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) {
    poll_fn(|cx| {
        let _pending = future.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_call_keeps_its_lease() {
    let (store, model) = (memory(), model());
    fill(&store, 2).await;
    let log = Log::new(store.clone());
    let inner = handler(&model, approve());
    let slow = service_fn(move |batch: Batch<MemoryTransaction>| {
        let mut inner = inner.clone();
        async move {
            Clock::default().sleep(Duration::from_secs(50)).await;
            tower::Service::call(&mut inner, batch).await
        }
    });
    let one =
        Projection::new("list", &log, slow.clone(), config()).unwrap().in_transaction().spawn();
    let two = Projection::new("list", &log, slow, config()).unwrap().in_transaction().spawn();
    until(|| one.stats().handled + two.stats().handled == 2).await;
    assert_eq!(one.stats().fenced + two.stats().fenced, 0);
    assert_eq!(positions(&model), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_keeps_the_lease_and_handles_nothing() {
    let (store, model) = (memory(), model());
    let log = Log::new(store.clone());
    let projection = Projection::new("list", &log, handler(&model, approve()), config()).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().is_leased).await;
    handle.pause();
    fill(&store, 3).await;
    Clock::default().sleep(Duration::from_secs(60)).await;
    assert_eq!(positions(&model), [0; 0]);
    assert!(store.projections().await.unwrap()[0].is_leased);
    assert_eq!(handle.look().await, Finding::degraded("the projection is paused"));
    handle.resume();
    until(|| handle.stats().checkpoint == 3).await;
    handle.shut_down().await;
    assert_eq!(handle.look().await, Finding::down("the projection has ended"));
}

#[tokio::test(start_paused = true)]
async fn a_filter_moves_the_checkpoint_past_other_events() {
    let (store, model) = (memory(), model());
    fill(&store, 9).await;
    let log = Log::new(store);
    let config = config().filter(Filter::all().kind("kind-1"));
    let projection = Projection::new("list", &log, handler(&model, approve()), config).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().checkpoint == 9).await;
    assert_eq!(positions(&model), [2, 4, 6, 8]);
}

#[tokio::test(start_paused = true)]
async fn without_a_transaction_the_checkpoint_follows_the_handler() {
    let store = memory();
    fill(&store, 6).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let model = seen.clone();
    let handler = service_fn(move |batch: Batch<()>| {
        let positions: Vec<u64> = batch.events().iter().map(|one| one.position.get()).collect();
        model.lock().unwrap().extend(positions);
        async move { Ok::<_, BoxError>(batch) }
    });
    let handle = Projection::new("list", &Log::new(store), handler, config()).unwrap().spawn();
    until(|| handle.stats().checkpoint == 6).await;
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(handle.stats().batches, 2);
}
