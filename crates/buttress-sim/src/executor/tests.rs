use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::*;
use crate::Seed;

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

type Log = Arc<Mutex<Vec<(u64, &'static str)>>>;

fn note(log: &Log, time: &VirtualClock, what: &'static str) {
    log.lock().unwrap().push((time.elapsed().as_micros() as u64, what));
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    let time = VirtualClock::new();
    let mut executor = Executor::new(&time);
    let log = Log::default();
    // tokio's paused clock wakes all three at 1 ms.
    for (delay, name) in [(900, "0.9"), (100, "0.1"), (500, "0.5")] {
        let (time, log, sleep) = (time.clone(), log.clone(), time.clock().sleep(us(delay)));
        executor.spawn(async move {
            sleep.await;
            note(&log, &time, name);
        });
    }
    executor.block_on(time.clock().sleep(us(900))).unwrap();
    assert_eq!(*log.lock().unwrap(), [(100, "0.1"), (500, "0.5"), (900, "0.9")]);
}

#[test]
fn ties_keep_their_order_unless_a_seed_draws_it() {
    let order = |ties: Option<u64>| {
        let time = VirtualClock::new();
        let mut executor = Executor::new(&time);
        if let Some(seed) = ties {
            executor = executor.vary_ties(Seed::new(seed).named("ties"));
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        for n in 0..6 {
            let (order, sleep) = (order.clone(), time.clock().sleep(us(5)));
            executor.spawn(async move {
                sleep.await;
                order.lock().unwrap().push(n);
            });
        }
        executor.block_on(time.clock().sleep(us(6))).unwrap();
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    };
    assert_eq!(order(None), [0, 1, 2, 3, 4, 5]);
    assert_eq!(order(Some(1)), order(Some(1)));
    let orders: std::collections::BTreeSet<_> = (0..20).map(|seed| order(Some(seed))).collect();
    assert!(orders.len() > 10, "{orders:?}");
}

#[test]
fn a_deadlock_names_those_who_wait() {
    let time = VirtualClock::new();
    let mut executor = Executor::new(&time);
    executor.spawn(named("relay", pending()));
    executor.spawn(pending());
    executor.spawn(async {});
    let clock = time.clock();
    let stuck = executor.block_on(async {
        clock.sleep(us(7)).await;
        pending::<()>().await;
    });
    let parked = vec!["main".to_owned(), "relay".to_owned(), "task 2".to_owned()];
    assert_eq!(stuck, Err(Stuck::Deadlock { at: us(7), parked }));
}

#[test]
fn a_livelock_names_those_who_spin() {
    let time = VirtualClock::new();
    let mut executor = Executor::new(&time).most_polls_an_instant(1000);
    executor.spawn(named("idle", pending()));
    let clock = time.clock();
    executor.spawn(named("spinner", async move {
        clock.sleep(us(3)).await;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    }));
    let stuck = executor.block_on(time.clock().sleep(us(10)));
    assert_eq!(stuck, Err(Stuck::Livelock { at: us(3), spinning: vec!["spinner".to_owned()] }));
}

#[test]
fn many_polls_are_no_livelock_while_the_time_moves() {
    let time = VirtualClock::new();
    let mut executor = Executor::new(&time).most_polls_an_instant(10);
    let clock = time.clock();
    let ended = executor.block_on(async {
        for _ in 0..1000 {
            clock.sleep(us(1)).await;
        }
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn tasks_spawn_tasks_and_stay_between_runs() {
    let time = VirtualClock::new();
    let mut executor = Executor::new(&time);
    let (log, spawner) = (Log::default(), executor.spawner());
    let (outer_log, outer_time) = (log.clone(), time.clone());
    executor.spawn(async move {
        let (log, time) = (outer_log.clone(), outer_time.clone());
        spawner.spawn(async move {
            time.clock().sleep(us(20)).await;
            note(&log, &time, "inner");
        });
        outer_time.clock().sleep(us(5)).await;
        note(&outer_log, &outer_time, "outer");
    });
    executor.block_on(time.clock().sleep(us(10))).unwrap();
    assert_eq!((executor.tasks(), log.lock().unwrap().len()), (1, 1));
    executor.block_on(time.clock().sleep(us(10))).unwrap();
    assert_eq!(*log.lock().unwrap(), [(5, "outer"), (20, "inner")]);
    assert_eq!(executor.tasks(), 0);
}

#[test]
fn tasks_that_are_ready_when_main_ends_are_not_forgotten() {
    let time = VirtualClock::new();
    let mut executor = Executor::new(&time);
    let (log, inner, clock) = (Log::default(), time.clone(), time.clock());
    let after = log.clone();
    // Main registers its timer first, so that it ends before the task of the same instant is
    // polled.
    let mut main = Box::pin(clock.sleep(us(1)));
    executor.block_on(poll_fn(|cx| Poll::Ready(main.as_mut().poll(cx).is_ready()))).unwrap();
    executor.spawn(async move {
        inner.clock().sleep(us(1)).await;
        note(&after, &inner, "ran");
    });
    executor.block_on(main).unwrap();
    executor.block_on(async {}).unwrap();
    executor.block_on(time.clock().sleep(us(1))).unwrap();
    assert_eq!(*log.lock().unwrap(), [(1, "ran")]);
}
