//! When the checks run, and what becomes of a check that misbehaves.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::health::{Check, Config, Group};
use buttress::{Spawner, VirtualClock};

use super::*;
use crate::support::lines::Lines;

/// A future that panics when it is dropped.
struct PanicsInDrop;

impl Future for PanicsInDrop {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

/// A panic whose value panics when it is dropped.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("again");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_7_3_a_check_that_hangs_panics_or_fails_is_down_and_leaves_the_others_alone() {
    let (first, last) = (Runs::default(), Runs::default());
    let low = Importance::Low;
    let health = orders()
        .check("first", low, first.check())
        .and_then(|it| it.check("hangs", low, pending::<Result<(), String>>))
        .and_then(|it| {
            it.check("panics", low, async || -> Result<(), String> { panic!("in poll") })
        })
        .and_then(|it| {
            it.check("panics early", low, || -> std::future::Ready<Result<(), String>> {
                panic!("before there is a future")
            })
        })
        .and_then(|it| {
            it.check("panics twice", low, async || -> Result<(), String> {
                std::panic::panic_any(PanicsAgain)
            })
        })
        .and_then(|it| it.check("panics late", low, || PanicsInDrop))
        .and_then(|it| it.check("fails", low, async || Err::<(), _>("connection refused")))
        .and_then(|it| it.check("last", low, last.check()))
        .unwrap();
    let start = now();
    let _running = health.spawn();
    until(start, 0).await;
    assert_eq!(found(&health, "fails"), down("connection refused"));
    for name in ["panics", "panics early", "panics twice"] {
        assert_eq!(found(&health, name), down("panicked"), "{name}");
    }
    assert_eq!(found(&health, "hangs").0, Status::Unknown, "it may still answer");
    until(start, 5).await;
    assert_eq!(found(&health, "hangs"), down("timeout"));
    assert_eq!(found(&health, "panics late"), down("timeout"));
    assert_eq!(check(&health, "hangs").took, Some(Duration::from_secs(5)));
    until(start, 35).await;
    assert_eq!((first.count(), last.count()), (4, 4));
    for name in ["first", "last"] {
        assert_eq!(found(&health, name), (Status::Up, None));
    }
    assert_eq!(found(&health, "panics late"), down("timeout"), "it runs again and again");
}

#[tokio::test(start_paused = true)]
async fn edge_7_3_ten_checks_of_five_seconds_take_five_seconds() {
    let mut health = orders();
    for name in ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] {
        let slow = async || {
            Clock::default().sleep(Duration::from_secs(5)).await;
            Ok::<(), String>(())
        };
        health = health.check(name, Importance::Critical, slow).unwrap();
    }
    let start = now();
    let _running = health.spawn();
    until(start, 4).await;
    assert!(health.report().checks.iter().all(|check| check.status == Status::Unknown));
    until(start, 5).await;
    let report = health.report();
    assert!(report.checks.iter().all(|check| check.status == Status::Up), "{report:?}");
    assert_eq!((report.status, report.ready, report.startup), (Status::Up, Status::Up, Status::Up));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_check_that_blocks_its_thread_is_down_and_delays_no_other() {
    let time = VirtualClock::new();
    let (release, blocked) = mpsc::channel::<()>();
    let (blocked, entered) = (Arc::new(std::sync::Mutex::new(blocked)), Runs::default());
    let (runs, entries) = (Runs::default(), entered.clone());
    let config = Config::new().clock(time.clock());
    let blocks = move || {
        let (blocked, entries) = (blocked.clone(), entries.clone());
        async move {
            entries.0.fetch_add(1, Ordering::SeqCst);
            // Blocks until the test releases it.
            blocked.lock().unwrap().recv().map_err(|error| error.to_string())
        }
    };
    let health = Health::with("orders", "", config)
        .and_then(|it| it.check("blocks", Importance::Critical, blocks))
        .and_then(|it| it.check("fine", Importance::Critical, runs.check()))
        .unwrap();
    let running = health.spawn();
    let wait = async |count: u32| {
        while runs.count() < count || entered.count() < 1 || found(&health, "fine").0 != Status::Up
        {
            tokio::task::yield_now().await;
        }
    };
    wait(1).await;
    time.advance(Duration::from_nanos(5_000_000_001));
    assert_eq!(found(&health, "blocks"), down("timeout"));
    assert_eq!(health.status(), Status::Down);
    for count in 2..6 {
        // The next run needs its timer, which the task of the check makes.
        while time.next_deadline().is_none() {
            tokio::task::yield_now().await;
        }
        time.advance(Duration::from_secs(10));
        wait(count).await;
    }
    assert_eq!(found(&health, "blocks"), down("timeout"), "no result for 45 seconds");
    assert_eq!(entered.count(), 1, "single flight: the check never runs twice at a time");
    // The answer comes too late. It counts as a timeout, and the check runs again.
    release.send(()).unwrap();
    while entered.count() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(found(&health, "blocks"), down("timeout"));
    release.send(()).unwrap();
    while found(&health, "blocks").0 != Status::Up {
        tokio::task::yield_now().await;
    }
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn edge_7_4_results_are_unknown_once_they_are_older_than_three_intervals() {
    let dropped = Arc::new(AtomicBool::new(false));
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (runs, flag) = (Runs::default(), dropped.clone());
    let counted = runs.check();
    let hangs_later = move || {
        let (first, flag) = (counted(), Flag(flag.clone()));
        let is_first = runs.count() == 1;
        async move {
            let _flag = flag;
            if is_first { first.await } else { pending().await }
        }
    };
    let health = critical(orders(), hangs_later);
    let start = now();
    let running = health.spawn();
    until(start, 10).await;
    assert_eq!(health.status(), Status::Up);
    dropped.store(false, Ordering::SeqCst);
    // The second run is in flight. Dropping the handle cancels it.
    drop(running);
    until(start, 10).await;
    assert!(dropped.load(Ordering::SeqCst), "the run in flight was cancelled");
    until(start, 30).await;
    assert_eq!((health.status(), health.group(Group::Ready)), (Status::Up, Status::Up));
    Clock::default().sleep(Duration::from_millis(1)).await;
    let unknown = (Status::Unknown, Some("the last result is 30 s old".to_owned()));
    assert_eq!(found(&health, "db"), unknown);
    assert_eq!((health.status(), health.group(Group::Ready)), (Status::Degraded, Status::Unknown));
    assert_eq!(health.group(Group::Startup), Status::Up);
}

#[test]
fn a_run_that_dies_with_its_runtime_leaves_no_result_and_another_runtime_runs_the_check() {
    let time = VirtualClock::new();
    let (runs, seen) = (Runs::default(), Runs::default());
    let counted = seen.check();
    let count = seen.clone();
    let hangs_first = move || {
        let (counted, is_first) = (counted(), count.count() == 1);
        async move { if is_first { pending().await } else { counted.await } }
    };
    let config = Config::new().clock(time.clock());
    let health = critical(Health::with("orders", "", config).unwrap(), hangs_first);
    let health = health.check("other", Importance::High, runs.check()).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spawned = async || {
        let running = health.spawn();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        running
    };
    let first = runtime();
    let _running = first.block_on(spawned());
    assert_eq!((seen.count(), runs.count()), (1, 1));
    drop(first);
    time.advance(Duration::from_secs(31));
    // The run has not timed out: it was cancelled. The result of the other check is too old.
    assert_eq!(found(&health, "db"), (Status::Unknown, Some("not checked yet".to_owned())));
    assert_eq!(found(&health, "other").0, Status::Unknown);
    let second = runtime();
    let _again = second.block_on(spawned());
    assert_eq!((seen.count(), runs.count()), (2, 2));
    assert_eq!(health.status(), Status::Up);
}

#[tokio::test(start_paused = true)]
async fn two_handles_run_each_check_once_an_interval_and_one_of_them_is_enough() {
    let runs = Runs::default();
    let health = critical(orders(), runs.check());
    let start = now();
    let first = health.spawn();
    let second = health.clone().spawn();
    until(start, 30).await;
    assert_eq!(runs.count(), 4);
    drop(first);
    until(start, 60).await;
    assert_eq!(runs.count(), 7);
    drop(second);
    until(start, 200).await;
    assert_eq!(runs.count(), 7);
}

#[tokio::test(start_paused = true)]
async fn without_tasks_nothing_runs_and_a_later_check_runs_immediately() {
    let (early, late) = (Runs::default(), Runs::default());
    let health = critical(orders(), early.check());
    let start = now();
    until(start, 60).await;
    assert_eq!((early.count(), health.group(Group::Ready)), (0, Status::Unknown));
    let _running = health.spawn();
    until(start, 63).await;
    let clone = health.clone();
    clone.check("late", Importance::High, late.check()).unwrap();
    until(start, 63).await;
    assert_eq!((early.count(), late.count()), (1, 1));
    assert_eq!(found(&health, "late"), (Status::Up, None));
    until(start, 75).await;
    assert_eq!((early.count(), late.count()), (2, 2), "each has its own interval");
}

#[tokio::test(start_paused = true)]
async fn checks_run_on_the_executor_of_the_configuration() {
    let tasks = Runs::default();
    let counted = tasks.clone();
    let spawner = Spawner::new(move |task: buttress::Task| {
        counted.0.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(task);
    });
    let runs = Runs::default();
    let config = Config::new().spawner(spawner).interval(Duration::from_secs(2));
    let health = Health::with("orders", "", config.limit(Duration::from_secs(2))).unwrap();
    let health = critical(health, runs.check()).check("other", Importance::Low, fine).unwrap();
    assert_eq!(tasks.count(), 0);
    let start = now();
    let _running = health.spawn();
    until(start, 6).await;
    assert_eq!((tasks.count(), runs.count()), (3, 4), "one task to start checks, one per check");
}

#[tokio::test(start_paused = true)]
async fn edge_7_6_startup_waits_for_each_check_once() {
    let (ready, asked) = (Arc::new(AtomicBool::new(false)), Runs::default());
    let (switch, count) = (ready.clone(), asked.check());
    let warm = move || {
        let (is_ready, counted) = (switch.load(Ordering::SeqCst), count());
        async move {
            counted.await?;
            if is_ready { Ok(()) } else { Err(String::from("cold")) }
        }
    };
    let cache = Check::new("cache", Importance::Low, warm).in_groups([Group::Startup]);
    let health = critical(orders(), fine).add_check(cache).unwrap();
    let start = now();
    let _running = health.spawn();
    until(start, 19).await;
    assert_eq!((asked.count(), health.group(Group::Startup)), (2, Status::Down));
    assert_eq!(health.group(Group::Ready), Status::Up, "a low check is no part of readiness");
    ready.store(true, Ordering::SeqCst);
    until(start, 20).await;
    assert_eq!(health.group(Group::Startup), Status::Up);
    ready.store(false, Ordering::SeqCst);
    until(start, 300).await;
    assert_eq!((found(&health, "cache"), health.group(Group::Startup)), (down("cold"), Status::Up));
}

#[tokio::test(start_paused = true)]
async fn edge_7_7_a_drain_through_any_clone_ends_readiness_immediately_and_forever() {
    let health = critical(orders(), fine);
    let start = now();
    let _running = health.spawn();
    until(start, 0).await;
    assert_eq!(health.group(Group::Ready), Status::Up);
    health.clone().drain();
    assert_eq!(health.group(Group::Ready), Status::Down);
    health.drain();
    until(start, 100).await;
    let report = health.report();
    assert_eq!((report.ready, report.live, report.draining), (Status::Down, Status::Up, true));
    assert_eq!(
        (report.status, report.startup),
        (Status::Up, Status::Up),
        "the checks continue to run"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_is_logged_once_with_the_text_for_operators() {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = broken.clone();
    let health = critical(orders(), move || {
        let is_broken = switch.load(Ordering::SeqCst);
        async move { if is_broken { Finding::down("no route to db:5432") } else { Finding::up() } }
    });
    let lines = Lines::capture();
    let start = now();
    let _running = health.spawn();
    until(start, 30).await;
    let logged = lines.take();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0].0, tracing::Level::WARN);
    for part in ["layer=\"orders\"", "check=\"db\"", "status=\"DOWN\"", "no route to db:5432"] {
        assert!(logged[0].1.contains(part), "{part}: {logged:?}");
    }
    broken.store(false, Ordering::SeqCst);
    until(start, 60).await;
    let logged = lines.take();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0].0, tracing::Level::INFO);
}

#[test]
fn names_and_times_that_cannot_work_are_refused() {
    let add = |name: String| orders().check(name, Importance::Low, fine).map(drop);
    for name in [String::new(), "a\nb".into(), "x".repeat(129)] {
        let error = add(name.clone()).unwrap_err();
        assert_eq!(error.field(), "check", "{name:?}");
        assert!(error.bound().contains("128 bytes"), "{error}");
    }
    add("x".repeat(128)).unwrap();
    add("größe \"7\"".into()).unwrap();
    // A check that is refused is not there.
    let health = critical(orders(), fine);
    let error = health.clone().check("db", Importance::Low, fine).unwrap_err();
    assert_eq!(error.to_string(), r#"check: "db" is not a name that no other check has"#);
    assert_eq!(health.report().checks.len(), 1);
    let with =
        |config: Config| Health::with("orders", "", config).map(drop).map_err(|e| e.to_string());
    let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
    assert_eq!(
        with(Config::new().interval(zero)).unwrap_err(),
        "interval: 0s is not longer than zero"
    );
    assert_eq!(with(Config::new().limit(zero)).unwrap_err(), "limit: 0s is not longer than zero");
    let refused = with(Config::new().interval(second)).unwrap_err();
    assert_eq!(refused, "limit: 5s is not at most the interval, 1s");
    with(Config::new().interval(second).limit(second)).unwrap();
    assert!(with(Config::new().interval(Duration::MAX)).is_err());
    let read: Config = toml::from_str("interval = \"2s\"\nlimit = \"1s\"").unwrap();
    with(read).unwrap();
    assert!(toml::from_str::<Config>("period = \"2s\"").is_err());
}
