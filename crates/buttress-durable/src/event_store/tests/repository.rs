//! Loading aggregates and executing commands on them.

use std::time::Duration;

use buttress::context::Context;
use buttress::retry::Backoff;
use buttress::{Json, Rng};

use super::super::*;
use super::faulty::{Fate, Faulty};
use super::orders::{Order, OrderCommand as Command, Refusal};
use super::{chain, repository, store};

#[tokio::test]
async fn events_6_12_the_order_of_s2() {
    let orders = repository(&store());
    for (command, version) in [
        (Command::Create, 1),
        (Command::Add { number: 2, cents: 1099 }, 2),
        (Command::Add { number: 1, cents: 2499 }, 3),
        (Command::Submit, 4),
    ] {
        let done = orders.execute("7", &command).await.unwrap();
        assert_eq!((done.version.get(), done.events.len()), (version, 1));
    }
    let loaded = orders.load("7").await.unwrap();
    assert_eq!(loaded.state.total(), 4697);
    assert_eq!((loaded.state.items.len(), loaded.version.get()), (2, 4));
    assert!(loaded.state.submitted && loaded.events.is_empty());
    let added = orders.execute("7", &Command::Add { number: 1, cents: 1 }).await;
    assert!(matches!(added, Err(Failed::Refused(Refusal::Submitted))), "{added:?}");
    orders.execute("8", &Command::Create).await.unwrap();
    let empty = orders.execute("8", &Command::Submit).await;
    assert!(matches!(empty, Err(Failed::Refused(Refusal::Empty))), "{empty:?}");
    assert_eq!(
        chain(&empty.unwrap_err()),
        "the aggregate refuses the command: the order has no items"
    );
    assert_eq!(orders.load("8").await.unwrap().version.get(), 1);
    assert_eq!(orders.load("9").await.unwrap().version.get(), 0, "an unknown one is the default");
}

#[tokio::test]
async fn a_command_without_events_appends_nothing() {
    let store = store();
    let orders = repository(&store);
    orders.execute("7", &Command::Create).await.unwrap();
    let done = orders.execute("7", &Command::Nothing).await.unwrap();
    assert_eq!((done.version.get(), done.events.len()), (1, 0));
    assert_eq!(store.event_stats().await.unwrap().last, 1);
}

async fn overtaken(
    fates: impl IntoIterator<Item = Fate>,
) -> (Faulty, Repository<Order, Faulty, Json>) {
    let memory = store();
    repository(&memory).execute("7", &Command::Create).await.unwrap();
    let faulty = Faulty::new(memory, fates);
    let orders = Repository::new(&Log::new(faulty.clone()), Json).rng(Rng::seeded(1));
    (faulty, orders)
}

#[tokio::test(start_paused = true)]
async fn a_conflict_decides_again_on_the_newer_state() {
    let (faulty, orders) = overtaken([Fate::Overtaken; 10]).await;
    let done = orders.execute("7", &Command::Add { number: 5, cents: 2 }).await.unwrap();
    assert_eq!(done.version.get(), 12, "the tenth retry succeeded");
    assert_eq!(done.state.total(), 10 + 10);
    let reads = faulty.reads.lock().unwrap().clone();
    assert_eq!(reads, (0..=10).map(|read| if read == 0 { 0 } else { read }).collect::<Vec<_>>());
    // A state that another writer has changed may refuse.
    let submitted = repository(&faulty.memory);
    submitted.execute("7", &Command::Submit).await.unwrap();
    let late = orders.execute("7", &Command::Submit).await;
    assert!(matches!(late, Err(Failed::Refused(Refusal::Submitted))), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn conflicts_end_with_both_versions_after_the_last_retry() {
    let (faulty, orders) = overtaken([Fate::Overtaken; 11]).await;
    let failed = orders.execute("7", &Command::Add { number: 5, cents: 2 }).await;
    let Err(Failed::Conflict { stream, expected, actual }) = failed else { panic!("{failed:?}") };
    assert_eq!((stream, expected.get(), actual.get()), (StreamId::new("order", "7"), 11, 12));
    assert_eq!(faulty.left(), 0);
    let (_, orders) = overtaken([Fate::Overtaken]).await;
    let orders = orders.retry(0, Backoff::none());
    let failed = orders.execute("7", &Command::Submit).await;
    assert!(matches!(failed, Err(Failed::Refused(Refusal::Empty))), "{failed:?}");
    let failed = orders.execute("7", &Command::Add { number: 5, cents: 2 }).await;
    assert!(matches!(failed, Err(Failed::Conflict { .. })), "{failed:?}");
}

/// Executes a command on one stream from 64 tasks. Returns how many failed.
async fn hot_stream(retries: u32) -> usize {
    let (faulty, orders) = overtaken([]).await;
    let backoff = Backoff::exponential(Duration::from_millis(5)).cap(Duration::from_millis(200));
    let orders = orders.retry(retries, backoff);
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let orders = orders.clone();
            tokio::spawn(async move { orders.execute("7", &Command::AddMany(1)).await })
        })
        .collect();
    let mut versions = Vec::new();
    for caller in callers {
        match caller.await.unwrap() {
            Ok(done) => versions.push(done.version.get()),
            Err(error) => assert!(matches!(error, Failed::Conflict { .. }), "{error:?}"),
        }
    }
    versions.sort_unstable();
    let all: Vec<u64> = (2..2 + versions.len() as u64).collect();
    assert_eq!(versions, all, "no gap and no duplicate");
    let state = faulty.memory.stream_state(&orders.stream("7")).await.unwrap().unwrap();
    assert_eq!(
        state.version.get() as usize,
        1 + versions.len(),
        "a caller with a conflict wrote nothing"
    );
    64 - versions.len()
}

#[tokio::test(start_paused = true)]
async fn events_6_2_callers_of_a_hot_stream_succeed_with_the_default_retries() {
    assert_eq!(hot_stream(10).await, 0);
    assert!(hot_stream(3).await > 10, "3 retries are too few");
}

#[tokio::test(start_paused = true)]
async fn an_append_whose_answer_was_lost_is_repeated_and_written_once() {
    let fates = [Fate::AnswerLost, Fate::Lost, Fate::Lost, Fate::Works];
    let (faulty, orders) = overtaken(fates).await;
    let done = orders.execute("7", &Command::AddMany(3)).await.unwrap();
    assert_eq!((done.version.get(), done.state.total()), (4, 3));
    assert_eq!(faulty.left(), 0);
    assert_eq!(faulty.memory.event_stats().await.unwrap().last, 4);
    let (_, orders) = overtaken([Fate::Lost; 20]).await;
    let failed = orders.execute("7", &Command::AddMany(3)).await;
    assert!(matches!(&failed, Err(Failed::Store(error)) if error.is_transient()), "{failed:?}");
    assert_eq!(chain(&failed.unwrap_err()), "cannot load or append events: store: transient: away");
}

#[tokio::test]
async fn commands_in_a_transaction_see_each_other_and_end_with_it() {
    let store = store();
    let orders = repository(&store);
    for commits in [false, true] {
        let mut tx = store.begin();
        orders.execute_in(&mut tx, "7", &Command::Create).await.unwrap();
        let done = orders.execute_in(&mut tx, "7", &Command::AddMany(2)).await.unwrap();
        assert_eq!((done.version.get(), done.state.total()), (3, 2));
        let refused = orders.execute_in(&mut tx, "7", &Command::Create).await;
        assert!(matches!(refused, Err(Failed::Refused(Refusal::Exists))), "{refused:?}");
        orders.execute_in(&mut tx, "8", &Command::Create).await.unwrap();
        if commits {
            tx.commit();
        }
    }
    assert_eq!(orders.load("7").await.unwrap().version.get(), 3);
    assert_eq!(orders.load("8").await.unwrap().version.get(), 1);
}

#[tokio::test]
async fn a_conflict_in_a_transaction_is_not_retried() {
    let store = store();
    let orders = repository(&store);
    orders.execute("7", &Command::Create).await.unwrap();
    store.archive_stream(&orders.stream("7")).await.unwrap();
    let mut tx = store.begin();
    let closed = orders.execute_in(&mut tx, "7", &Command::AddMany(1)).await;
    assert!(matches!(closed, Err(Failed::Closed { .. })), "{closed:?}");
    let closed = orders.execute("7", &Command::AddMany(1)).await;
    assert_eq!(
        chain(&closed.unwrap_err()),
        "stream order/7 is closed: send the command to another stream"
    );
}

#[tokio::test]
async fn events_carry_the_context_of_their_command() {
    let store = store();
    let orders = repository(&store);
    let context = Context::new().with_correlation("request-9".parse().unwrap());
    context.scope(orders.execute("7", &Command::Create)).await.unwrap();
    let events = store.read_stream(&orders.stream("7"), Version::START, 9).await.unwrap().events;
    let correlation = ("x-correlation-id".to_owned(), "request-9".to_owned());
    assert_eq!((events[0].headers.len(), &events[0].headers[0]), (1, &correlation));
    // What an event causes carries its id.
    events[0].scope(orders.execute("8", &Command::Create)).await.unwrap();
    let caused = store.read_stream(&orders.stream("8"), Version::START, 9).await.unwrap().events;
    let causation = ("ce-causationid".to_owned(), events[0].id.to_string());
    assert_eq!(caused[0].headers, [correlation, causation]);
}

#[tokio::test]
async fn a_stream_of_many_pages_is_loaded_whole() {
    let orders = repository(&store());
    orders.execute("7", &Command::Create).await.unwrap();
    for _ in 0..3 {
        orders.execute("7", &Command::AddMany(499)).await.unwrap();
    }
    let loaded = orders.load("7").await.unwrap();
    assert_eq!((loaded.version.get(), loaded.state.total()), (1498, 1497));
}
