//! Events that a handler cannot handle, and stores that do not answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::health::{Finding, Watch};
use buttress::retry::{Backoff, Jitter};
use buttress::{Clock, StoreErrorKind};
use tower::BoxError;

use super::super::*;
use super::faulty::{Fate, Faulty};
use super::projecting::{
    Judge, append, approve, config, fill, fold, handler, memory, model, positions, until,
};
use crate::consume::{DeadLetters, LetterPage, MemoryDeadLetters, Reason, Select};

/// Fails at the event of a position.
fn fails_at(position: u64, error: fn() -> BoxError) -> Judge {
    Arc::new(
        move |ordered: &Ordered| {
            if ordered.position.get() == position { Err(error()) } else { Ok(()) }
        },
    )
}

#[tokio::test(start_paused = true)]
async fn events_6_9_a_projection_stops_at_its_event_and_others_continue() {
    let (store, stopping, other) = (memory(), model(), model());
    fill(&store, 6).await;
    let log = Log::new(store.clone());
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = is_mended.clone();
    let panics: Judge = Arc::new(move |ordered: &Ordered| {
        let is_bad = ordered.position.get() == 3;
        assert!(!is_bad || mended.load(Ordering::Relaxed), "bad data");
        Ok(())
    });
    let make = |name: &str, handler| Projection::new(name, &log, handler, config()).unwrap();
    let bad = make("bad", handler(&stopping, panics)).in_transaction().spawn();
    let good = make("good", handler(&other, approve())).in_transaction().spawn();
    until(|| bad.stopped().is_some() && good.stats().checkpoint == 6).await;
    let stopped = bad.stopped().unwrap();
    assert_eq!((stopped.position.get(), &*stopped.kind), (3, "kind-0"));
    assert_eq!((stopped.stream.to_string(), stopped.version.get()), ("order/2".to_owned(), 1));
    let text = "the projection has stopped at position 3, event 1 of stream order/2, kind `kind-0`: the handler panicked: bad data";
    assert_eq!(stopped.to_string(), text);
    assert_eq!(bad.look().await, Finding::degraded(text));
    assert_eq!(good.look().await, Finding::up());
    assert_eq!(
        positions(&stopping),
        [1, 2],
        "events before it are handled, although their batch failed"
    );
    // 1 call of the batch, and 3 of the event.
    assert_eq!(bad.stats().failed, 4);
    let state = store.projections().await.unwrap().remove(0);
    assert_eq!((state.lag, state.is_leased), (4, false));
    is_mended.store(true, Ordering::Relaxed);
    bad.resume();
    until(|| bad.stats().checkpoint == 6).await;
    assert_eq!(bad.look().await, Finding::up());
    assert_eq!(positions(&stopping), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn events_6_9_an_undecodable_event_stops_without_a_retry() {
    let (store, model) = (memory(), model());
    fill(&store, 1).await;
    let judge: Judge = Arc::new(|ordered: &Ordered| {
        let decoder = Decoder::new(buttress::Json);
        let decoded = decoder.decode_at::<super::orders::OrderEvent>(ordered);
        decoded.map(drop).map_err(|error| wrap(error))
    });
    let log = Log::new(store);
    let projection = Projection::new("list", &log, handler(&model, judge), config()).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stopped().is_some()).await;
    assert_eq!(handle.stats().failed, 1);
    let error = handle.stopped().unwrap().error;
    assert!(error.contains("event at position 1, 1 of stream order/0, kind `kind-0`"), "{error}");
}

/// Wraps an error, as a handler may do.
fn wrap(error: Undecodable) -> BoxError {
    #[derive(Debug, thiserror::Error)]
    #[error("the list")]
    struct Wrapped(#[source] Undecodable);
    Wrapped(error).into()
}

#[tokio::test(start_paused = true)]
async fn a_skipped_event_is_counted_and_the_next_ones_are_handled() {
    let (store, model) = (memory(), model());
    fill(&store, 6).await;
    let judge = fails_at(3, || "no".into());
    let log = Log::new(store);
    let config = config().on_failure(OnFailure::Skip);
    let projection = Projection::new("list", &log, handler(&model, judge), config).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().checkpoint == 6).await;
    assert_eq!(positions(&model), [1, 2, 4, 5, 6]);
    assert_eq!((handle.stats().skipped, handle.stats().handled), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_holds_its_stream_and_no_other() {
    let (store, model) = (memory(), model());
    fill(&store, 9).await;
    let letters = MemoryDeadLetters::new(Clock::default());
    let judge = fails_at(2, || "no".into());
    let log = Log::new(store.clone());
    let config = config().on_failure(OnFailure::Park).dead_letters(letters.clone());
    let projection = Projection::new("list", &log, handler(&model, judge), config).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().checkpoint == 9).await;
    assert_eq!(positions(&model), [1, 3, 4, 6, 7, 9], "without stream 1");
    let all = LetterPage::first("list", &Select::All, 9);
    let found = letters.list_letters(all).await.unwrap();
    let reasons: Vec<Reason> = found.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [Reason::Exhausted, Reason::Parked, Reason::Parked]);
    assert!(found.iter().all(|letter| letter.key == "order/1" && letter.holds_key));
    assert_eq!((found[0].payload.clone(), &*found[0].error), (vec![1], "no"));
    let position = ("event-position".to_owned(), "2".to_owned());
    assert!(found[0].headers.contains(&position), "{found:?}");
    assert_eq!(handle.stats().parked, 3);
    // Without letters the stream continues.
    let ids: Vec<_> = found.iter().map(|letter| letter.id).collect();
    letters.remove_letters(&ids).await.unwrap();
    append(&store, 10).await;
    until(|| handle.stats().checkpoint == 10).await;
    assert_eq!(positions(&model).last(), Some(&10));
}

#[test]
fn parking_needs_dead_letters() {
    let log = Log::new(memory());
    let config = config().on_failure(OnFailure::Park);
    let error = Projection::new("list", &log, handler(&model(), approve()), config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"list\": on-failure: park is not possible without dead letters: call `dead_letters`"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_uses_up_no_attempt() {
    let (store, model) = (memory(), model());
    fill(&store, 3).await;
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    let judge: Judge = Arc::new(move |_: &Ordered| {
        let mut calls = counted.lock().unwrap();
        *calls += 1;
        if *calls <= 20 {
            return Err(buttress::StoreError::transient("away").into());
        }
        Ok(())
    });
    let lost = [Fate::Lost; 20];
    let log = Log::new(Faulty::new(store.clone(), []).commits(lost));
    let projection = Projection::new("list", &log, handler(&model, judge), config()).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().checkpoint == 3).await;
    assert_eq!(handle.stopped(), None);
    assert_eq!(handle.stats().failed_operations, 20);
    assert_eq!(fold(&store).await, *model.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_store_is_an_outage_at_every_operation() {
    for operations in 0.. {
        let (store, model) = (memory(), model());
        fill(&store, 7).await;
        let faulty = Faulty::new(store.clone(), []).panics_after(operations);
        let log = Log::new(faulty.clone());
        let projection =
            Projection::new("list", &log, handler(&model, approve()), config()).unwrap();
        let handle = projection.in_transaction().spawn();
        until(|| handle.stats().checkpoint == 7 || handle.has_ended()).await;
        assert!(!handle.has_ended(), "it ended after {operations} operations");
        if !faulty.has_panicked() {
            assert!(operations > 8, "only {operations} operations");
            return;
        }
        assert_eq!(handle.stats().failed_operations, 1, "after {operations} operations");
        assert_eq!(handle.look().await, Finding::up());
        handle.shut_down().await;
        assert_eq!(fold(&store).await, *model.lock().unwrap(), "after {operations} operations");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_of_the_handler_that_panics_uses_up_an_attempt() {
    /// Panics when it is dropped, as long as it is bad.
    #[derive(Debug)]
    struct Bad(Arc<AtomicBool>);
    impl Drop for Bad {
        fn drop(&mut self) {
            assert!(!self.0.load(Ordering::Relaxed), "bad value");
        }
    }
    impl std::fmt::Display for Bad {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bad error")
        }
    }
    impl std::error::Error for Bad {}
    let (store, model) = (memory(), model());
    fill(&store, 1).await;
    let is_bad = Arc::new(AtomicBool::new(true));
    let judged = is_bad.clone();
    let judge: Judge = Arc::new(move |_: &Ordered| {
        if judged.load(Ordering::Relaxed) { Err(Bad(judged.clone()).into()) } else { Ok(()) }
    });
    let log = Log::new(store.clone());
    let projection = Projection::new("list", &log, handler(&model, judge), config()).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stopped().is_some() || handle.has_ended()).await;
    assert_eq!(
        handle.stopped().map(|stopped| stopped.error).unwrap_or_default(),
        "the handler panicked: bad value"
    );
    is_bad.store(false, Ordering::Relaxed);
    handle.resume();
    until(|| handle.stats().checkpoint == 1).await;
    assert_eq!(positions(&model), [1]);
}

#[tokio::test(start_paused = true)]
async fn events_6_9_a_constraint_at_the_commit_uses_up_attempts() {
    for kind in [StoreErrorKind::Conflict, StoreErrorKind::Invalid] {
        let (store, model) = (memory(), model());
        fill(&store, 1).await;
        let log = Log::new(Faulty::new(store.clone(), []).commits([Fate::Refused(kind); 20]));
        let projection =
            Projection::new("list", &log, handler(&model, approve()), config()).unwrap();
        let handle = projection.in_transaction().spawn();
        until(|| handle.stopped().is_some()).await;
        let stopped = handle.stopped().unwrap();
        assert_eq!((stopped.position.get(), handle.stats().failed), (1, 3), "{kind:?}");
        assert!(stopped.error.contains("a constraint"), "{}", stopped.error);
        assert_eq!(positions(&model), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_grows_while_no_attempt_is_used_up() {
    let (store, model) = (memory(), model());
    fill(&store, 1).await;
    let clock = Clock::default();
    let calls: Arc<Mutex<Vec<std::time::Instant>>> = Arc::default();
    let (seen, at) = (calls.clone(), clock.clone());
    let judge: Judge = Arc::new(move |_: &Ordered| {
        let mut calls = seen.lock().unwrap();
        calls.push(at.now());
        if calls.len() < 6 { Err(buttress::StoreError::transient("away").into()) } else { Ok(()) }
    });
    let backoff = Backoff::exponential(Duration::from_secs(1)).jitter(Jitter::None);
    let config = Config::new().retry(2, backoff);
    let log = Log::new(store);
    let projection = Projection::new("list", &log, handler(&model, judge), config).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().checkpoint == 1).await;
    let calls = calls.lock().unwrap();
    // 10 s is the default cap.
    let waits = calls.windows(2).map(|pair| (pair[1] - pair[0]).as_secs());
    assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4, 8, 10]);
}

#[tokio::test(start_paused = true)]
async fn letters_of_events_with_one_id_and_of_streams_with_one_text_are_separate() {
    let (store, model) = (memory(), model());
    let letters = MemoryDeadLetters::new(Clock::default());
    for (kind, id) in [("a", "b/c"), ("a/b", "c"), ("bill", "7")] {
        let event = NewEvent::new(crate::outbox::MessageId::new(7), "kind-0", vec![1]);
        let batch = NewBatch::new(StreamId::new(kind, id), Expected::New, vec![event]);
        store.append_batch(&batch).await.unwrap();
    }
    // Not the second stream.
    let judge: Judge =
        Arc::new(
            |ordered: &Ordered| {
                if ordered.position.get() == 2 { Ok(()) } else { Err("no".into()) }
            },
        );
    let config = config().on_failure(OnFailure::Park).dead_letters(letters.clone());
    let log = Log::new(store.clone());
    let projection = Projection::new("list", &log, handler(&model, judge), config).unwrap();
    let handle = projection.in_transaction().spawn();
    until(|| handle.stats().checkpoint == 3).await;
    let found = letters.list_letters(LetterPage::first("list", &Select::All, 9)).await.unwrap();
    let keys: Vec<&str> = found.iter().map(|letter| &*letter.key).collect();
    assert_eq!(keys, ["a/b/c", "bill/7"]);
    assert_eq!(positions(&model), [2]);
}
