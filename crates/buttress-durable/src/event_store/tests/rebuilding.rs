//! Rebuilding beside a running projection, and handlers with effects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tower::{BoxError, service_fn};

use super::super::*;
use super::faulty::{Fate, Faulty};
use super::projecting::{
    Model, Shared, append, approve, config, fill, fold, handler, memory, until,
};

/// A handler that writes to the model behind `live`, which a swap replaces.
fn through(live: &Arc<Mutex<Shared>>) -> impl Handles<MemoryTransaction> + use<> {
    let live = live.clone();
    service_fn(move |batch: Batch<MemoryTransaction>| {
        let mut inner = handler(&live.lock().unwrap().clone(), approve());
        async move { tower::Service::call(&mut inner, batch).await }
    })
}

#[tokio::test(start_paused = true)]
async fn events_6_11_a_rebuild_beside_takes_the_place_of_the_running_one() {
    let store = memory();
    fill(&store, 20).await;
    let log = Log::new(Faulty::new(store.clone(), []));
    let old = Shared::default();
    let live = Arc::new(Mutex::new(old.clone()));
    let running = Projection::new("list", &log, through(&live), config()).unwrap();
    let running = running.in_transaction().spawn();
    until(|| running.stats().checkpoint == 20).await;
    // The old model was damaged.
    old.lock().unwrap().positions.reverse();
    let built = Shared::default();
    let beside = Projection::new("list-2", &log, handler(&built, approve()), config()).unwrap();
    let beside = beside.in_transaction();
    // Events come while it is built.
    let writer = async {
        for number in 0..10 {
            append(&store, number).await;
            tokio::task::yield_now().await;
        }
    };
    let swap = |mut tx: MemoryTransaction| {
        let (live, built) = (live.clone(), built.clone());
        async move {
            tx.on_commit(move || *live.lock().unwrap() = built);
            Ok::<_, BoxError>(tx)
        }
    };
    let ((), at) = tokio::join!(writer, beside.rebuild("list", swap));
    let at = at.unwrap().get();
    assert!(at >= 20, "{at}");
    fill(&store, 5).await;
    until(|| running.stats().checkpoint == 35).await;
    assert_eq!(fold(&store).await, *built.lock().unwrap());
    let states = store.projections().await.unwrap();
    let names: Vec<&str> = states.iter().map(|state| &*state.name).collect();
    assert_eq!(names, ["list"]);
    assert_ne!(*old.lock().unwrap(), Model::default());
}

#[tokio::test(start_paused = true)]
async fn events_6_11_live_effects_get_no_replayed_event() {
    let store = memory();
    fill(&store, 5).await;
    let log = Log::new(store.clone());
    let mails = Shared::default();
    let live = || config().effects(Effects::Live);
    let make = |name: &str, handler| {
        Projection::new(name, &log, handler, live()).unwrap().in_transaction()
    };
    // A new one begins after the last event.
    let first = make("mails", handler(&mails, approve())).spawn();
    until(|| first.stats().is_leased).await;
    fill(&store, 3).await;
    until(|| first.stats().checkpoint == 8).await;
    assert_eq!(mails.lock().unwrap().positions, [6, 7, 8]);
    // A rebuild replays everything, and sends nothing.
    let again = Shared::default();
    let swap = async |tx: MemoryTransaction| Ok::<_, BoxError>(tx);
    let claim = ProjectionClaim::new("mails-2", ProjectorId::new(9), std::time::Duration::ZERO);
    store.lease_projection(claim).await.unwrap();
    let at = make("mails-2", handler(&again, approve())).rebuild("mails", swap).await.unwrap();
    assert_eq!((at.get(), again.lock().unwrap().positions.len()), (8, 0));
    fill(&store, 2).await;
    until(|| first.stats().checkpoint == 10).await;
    assert_eq!(mails.lock().unwrap().positions, [6, 7, 8, 9, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_went_back_replays_nothing_to_live_effects() {
    let store = memory();
    fill(&store, 8).await;
    let log = Log::new(store.clone());
    let lease = std::time::Duration::ZERO;
    let leased = |name| {
        let store = store.clone();
        async move {
            let claim = ProjectionClaim::new(name, ProjectorId::new(9), lease);
            store.lease_projection(claim).await.unwrap().unwrap().lease
        }
    };
    let (from, to) = (Position::START, Position::new(8));
    let mails = leased("mails").await;
    store.advance_projection(&Advance::new(mails, from, to)).await.unwrap();
    let built = leased("mails-2").await;
    let at = Position::new(3);
    store.advance_projection(&Advance::new(built.clone(), from, at)).await.unwrap();
    store.swap_projection(&Swap::new(built, at, "mails")).await.unwrap();
    let sent = Shared::default();
    let config = config().effects(Effects::Live);
    let handle = Projection::new("mails", &log, handler(&sent, approve()), config).unwrap();
    let handle = handle.in_transaction().spawn();
    fill(&store, 1).await;
    until(|| handle.stats().checkpoint == 9).await;
    assert_eq!(sent.lock().unwrap().positions, [9]);
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_fails_swaps_nothing_and_continues_later() {
    let store = memory();
    fill(&store, 6).await;
    // The last commit is the commit of the swap: it works, and its answer is lost.
    let fates = [Fate::Works, Fate::Works, Fate::AnswerLost];
    let is_bad = Arc::new(AtomicBool::new(true));
    let judged = is_bad.clone();
    let judge = Arc::new(move |ordered: &Ordered| {
        let fails = ordered.position.get() == 5 && judged.load(Ordering::Relaxed);
        if fails { Err("no".into()) } else { Ok(()) }
    });
    let built = Shared::default();
    let make = |log: &Log<Faulty>| {
        let config = config().on_failure(OnFailure::Stop);
        let projection = Projection::new("list-2", log, handler(&built, judge.clone()), config);
        projection.unwrap().in_transaction()
    };
    let swap = async |tx: MemoryTransaction| Ok::<_, BoxError>(tx);
    let log = Log::new(Faulty::new(store.clone(), []));
    let failed = make(&log).rebuild("list", swap).await;
    let Err(RebuildError::Stopped(stopped)) = failed else { panic!("{failed:?}") };
    assert_eq!(stopped.position.get(), 5);
    is_bad.store(false, Ordering::Relaxed);
    let refuses = async |_: MemoryTransaction| Err::<MemoryTransaction, BoxError>("locked".into());
    let failed = make(&log).rebuild("list", refuses).await;
    assert!(matches!(failed, Err(RebuildError::Swap(_))), "{failed:?}");
    let log = Log::new(Faulty::new(store.clone(), []).commits(fates.into_iter().skip(2)));
    // Nothing is left to handle, so the only commit is the commit of the swap.
    let clock = buttress::Clock::default();
    clock.sleep(std::time::Duration::from_secs(15)).await;
    assert_eq!(make(&log).rebuild("list", swap).await.unwrap().get(), 6);
    assert_eq!(fold(&store).await, *built.lock().unwrap(), "each event once in three rebuilds");
    let states = store.projections().await.unwrap();
    assert_eq!((states.len(), &*states[0].name, states[0].checkpoint.get()), (1, "list", 6));
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_can_be_shut_down() {
    let store = memory();
    let log = Log::new(store.clone());
    // Another worker has the lease, so it waits.
    let claim =
        ProjectionClaim::new("list-2", ProjectorId::new(9), std::time::Duration::from_secs(3600));
    store.lease_projection(claim).await.unwrap();
    let built = Shared::default();
    let projection = Projection::new("list-2", &log, handler(&built, approve()), config()).unwrap();
    let projection = projection.in_transaction();
    let handle = projection.handle();
    let swap = async |tx: MemoryTransaction| Ok::<_, BoxError>(tx);
    let (ended, ()) = tokio::join!(projection.rebuild("list", swap), handle.shut_down());
    assert!(matches!(ended, Err(RebuildError::ShutDown)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn events_6_11_of_two_rebuilds_of_one_name_one_swaps_and_no_event_comes_twice() {
    let store = memory();
    fill(&store, 9).await;
    let log = Log::new(Faulty::new(store.clone(), []));
    let built = Shared::default();
    let make = || {
        let handler = handler(&built, approve());
        Projection::new("list-2", &log, handler, config()).unwrap().in_transaction()
    };
    let swap = async |tx: MemoryTransaction| Ok::<_, BoxError>(tx);
    let (one, two) = tokio::join!(make().rebuild("list", swap), make().rebuild("list", swap));
    let (swapped, removed) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_eq!(swapped.unwrap().get(), 9);
    let error = removed.unwrap_err();
    assert!(matches!(error, RebuildError::Removed { .. }), "{error:?}");
    assert_eq!(fold(&store).await, *built.lock().unwrap());
    assert_eq!(store.projections().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_6_11_a_swap_without_a_transaction_is_repeated_without_the_callers_part() {
    let store = memory();
    fill(&store, 6).await;
    let log = Log::new(Faulty::new(store.clone(), []).commits([Fate::AnswerLost]));
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let model = seen.clone();
    let handler = service_fn(move |batch: Batch<()>| {
        let positions: Vec<u64> = batch.events().iter().map(|one| one.position.get()).collect();
        model.lock().unwrap().extend(positions);
        async move { Ok::<_, BoxError>(batch) }
    });
    let calls = Arc::new(Mutex::new(0));
    let swap = |()| {
        *calls.lock().unwrap() += 1;
        async { Ok::<_, BoxError>(()) }
    };
    let projection = Projection::new("list-2", &log, handler, config()).unwrap();
    assert_eq!(projection.rebuild("list", swap).await.unwrap().get(), 6);
    assert_eq!((seen.lock().unwrap().clone(), *calls.lock().unwrap()), (vec![1, 2, 3, 4, 5, 6], 1));
    let states = store.projections().await.unwrap();
    assert_eq!((states.len(), &*states[0].name), (1, "list"));
}

#[tokio::test(start_paused = true)]
async fn events_6_11_a_rebuild_of_live_effects_loses_no_event() {
    let store = memory();
    let log = Log::new(store.clone());
    let mails = Shared::default();
    let make = |name: &str, model: &Shared| {
        let config = config().effects(Effects::Live);
        Projection::new(name, &log, handler(model, approve()), config).unwrap().in_transaction()
    };
    let first = make("mails", &mails).spawn();
    until(|| first.stats().is_leased).await;
    fill(&store, 5).await;
    until(|| first.stats().checkpoint == 5).await;
    first.pause();
    fill(&store, 3).await;
    let swap = async |tx: MemoryTransaction| Ok::<_, BoxError>(tx);
    let again = Shared::default();
    assert_eq!(make("mails-2", &again).rebuild("mails", swap).await.unwrap().get(), 8);
    first.resume();
    until(|| first.stats().checkpoint == 8).await;
    assert_eq!(mails.lock().unwrap().positions, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(again.lock().unwrap().positions, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_projection_with_live_effects_sends_nothing_again() {
    let store = memory();
    let log = Log::new(store.clone());
    let mails = Shared::default();
    let inner = handler(&mails, approve());
    let slow = service_fn(move |batch: Batch<MemoryTransaction>| {
        let mut inner = inner.clone();
        async move {
            buttress::Clock::default().sleep(std::time::Duration::from_secs(8)).await;
            tower::Service::call(&mut inner, batch).await
        }
    });
    let config = config().effects(Effects::Live);
    let handle = Projection::new("mails", &log, slow, config).unwrap().in_transaction().spawn();
    until(|| handle.stats().is_leased).await;
    fill(&store, 3).await;
    until(|| handle.stats().checkpoint == 3).await;
    fill(&store, 1).await;
    let clock = buttress::Clock::default();
    clock.sleep(std::time::Duration::from_secs(1)).await;
    // In the midst of a call, which then renews its lease.
    assert!(store.remove_projection("mails").await.unwrap());
    clock.sleep(std::time::Duration::from_secs(30)).await;
    fill(&store, 2).await;
    until(|| handle.stats().checkpoint == 6).await;
    assert_eq!(
        mails.lock().unwrap().positions,
        [1, 2, 3, 5, 6],
        "4 was rolled back, and is passed"
    );
}
