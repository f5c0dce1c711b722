use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

#[derive(Default)]
struct Disk {
    log: Mutex<Vec<&'static str>>,
    charges: AtomicU32,
}

/// Charges once per record. Unless `keyed`, a crash between the charge and its record charges
/// again.
async fn pay(disk: &Disk, points: &CrashPoints, keyed: bool) {
    if disk.log.lock().unwrap().contains(&"charged") {
        return;
    }
    let charge = async {
        if !keyed || disk.charges.load(Ordering::SeqCst) == 0 {
            disk.charges.fetch_add(1, Ordering::SeqCst);
        }
    };
    points.around("charge", charge).await;
    points.around("record", async { disk.log.lock().unwrap().push("charged") }).await;
}

async fn once(disk: &Disk) -> Result<(), String> {
    match disk.charges.load(Ordering::SeqCst) {
        1 => Ok(()),
        n => Err(format!("charged {n} times")),
    }
}

#[tokio::test]
async fn a_window_between_two_durable_things_is_found_and_named() {
    let run = async |disk: &Disk, points: &CrashPoints| pay(disk, points, false).await;
    let found = at_every_boundary(async || Disk::default(), run, once).await.unwrap_err();
    assert_eq!(found.at, [Boundary { number: 2, name: "charge", side: Side::After }]);
    let text = found.to_string();
    assert!(
        text.starts_with("crashed at boundary 2 (after \"charge\"): charged 2 times\n"),
        "{text}"
    );
    assert!(
        text.contains("reproduce: BUTTRESS_CRASH_AT=2 cargo test -- --exact crash::tests::"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_repeated_under_a_key_survives_every_crash_and_every_two() {
    let run = async |disk: &Disk, points: &CrashPoints| pay(disk, points, true).await;
    let report = at_every_boundary(async || Disk::default(), run, once).await.unwrap();
    assert_eq!((report.boundaries.len(), report.crashes, report.missed), (4, 4, 0));
    let report = at_every_pair(async || Disk::default(), run, once).await.unwrap();
    // Four first crashes. The second life reaches four boundaries after the first three, and none
    // after the last, because the record exists.
    assert_eq!((report.crashes, report.missed), (4 + 3 * 4, 0));
}

#[tokio::test]
async fn nothing_runs_after_the_crash_and_spawned_tasks_die_with_it() {
    let points = CrashPoints::crash_at(2);
    let spawner = points.spawner(buttress::Spawner::default());
    let (went_on, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
    let witness = dropped.clone();
    spawner.spawn(async move {
        let _witness = witness;
        std::future::pending::<()>().await;
    });
    let (inner, flag) = (points.clone(), went_on.clone());
    let ended = points.guard(async move {
        inner.reach("one").await;
        tokio::task::yield_now().await;
        inner.reach("two").await;
        flag.store(true, Ordering::SeqCst);
    });
    assert_eq!(ended.await, None);
    assert!(!went_on.load(Ordering::SeqCst));
    assert!(points.hit("three").is_err(), "dead is dead");
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&dropped), 1, "the spawned task is gone");
    assert_eq!(points.reached().len(), 2);
}

#[tokio::test]
async fn a_killed_process_runs_no_destructors_if_asked() {
    for (forget, left) in [(false, 1), (true, 2)] {
        let points = CrashPoints::crash_at(1);
        let points = if forget { points.forgetting() } else { points };
        let held = Arc::new(());
        let (inner, guard) = (points.clone(), held.clone());
        let ended = points.guard(async move {
            let _guard = guard;
            inner.reach("only").await;
        });
        assert_eq!(ended.await, None);
        assert_eq!(Arc::strong_count(&held), left);
    }
}

#[tokio::test]
async fn an_answer_in_the_poll_of_the_crash_reaches_nobody() {
    let points = CrashPoints::crash_at(1);
    let inner = points.clone();
    assert_eq!(points.guard(async move { inner.hit("ignored").is_err() }).await, None);
}
