//! Guarantees on real threads: four workers, more tasks than permits, tokens or places, and no
//! dependence on time.

mod counts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use buttress::ErrorKind;
use buttress::bulkhead::{BulkheadLayer, Config, KeyedBulkheadLayer};
use tokio::task::yield_now;

use crate::support::{Ask, soon};

/// Runs `tasks` tasks to their ends. A task that hangs fails the test.
async fn run<F>(tasks: u32, task: impl Fn(u32) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..tasks).map(|n| tokio::spawn(task(n))).collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
}

/// The number of calls inside, and its maximum.
#[derive(Default)]
struct Inside {
    now: AtomicU32,
    peak: AtomicU32,
}

impl Inside {
    fn enter(&self) {
        let inside = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(inside, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bulkhead_with_a_queue_and_cancels_keeps_its_limit_and_gets_every_permit_back() {
    let config = Config::new().max_concurrent(3).queue(1000);
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let inside = Arc::new(Inside::default());
    let cancelled = Arc::new(AtomicUsize::new(0));
    run(16, |task| {
        let (handle, inside, cancelled) = (handle.clone(), inside.clone(), cancelled.clone());
        async move {
            for round in 0..3000 {
                let permit = if (task + round) % 5 == 0 {
                    tokio::select! {
                        biased;
                        permit = handle.acquire() => Some(permit.unwrap()),
                        () = yield_now() => None,
                    }
                } else {
                    Some(handle.acquire().await.unwrap())
                };
                let Some(permit) = permit else {
                    cancelled.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                inside.enter();
                if round % 3 > 0 {
                    yield_now().await;
                }
                inside.leave();
                drop(permit);
            }
        }
    })
    .await;
    assert_eq!(inside.peak.load(Ordering::SeqCst), 3, "reached, and never passed");
    assert!(cancelled.load(Ordering::SeqCst) > 0, "some left the queue");
    let stats = handle.stats();
    assert_eq!((stats.active, stats.queued, stats.peak_active), (0, 0, 3));
    let permits: Vec<_> = (0..3).map(|_| handle.try_acquire().unwrap()).collect();
    assert!(handle.try_acquire().is_err());
    drop(permits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bulkhead_resized_all_the_while_loses_nobody() {
    let config = Config::new().max_concurrent(2).queue(1000);
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let inside = Arc::new(Inside::default());
    run(16, |task| {
        let (handle, inside) = (handle.clone(), inside.clone());
        async move {
            for round in 0..3000 {
                let permit = handle.acquire().await.unwrap();
                inside.enter();
                yield_now().await;
                inside.leave();
                drop(permit);
                if task == 0 {
                    handle.resize(1 + round % 4).unwrap();
                }
            }
        }
    })
    .await;
    assert!(inside.peak.load(Ordering::SeqCst) <= 4, "the largest limit there was");
    assert_eq!((handle.stats().active, handle.stats().queued), (0, 0));
}

/// With one shard, and with so many that they share room.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_never_pass_their_cap_nor_a_key_its_limit() {
    for (cap, keys) in [(50, 200), (1025, 4000)] {
        let config = Config::new().max_concurrent(1);
        let layer = KeyedBulkheadLayer::new(config, cap, |ask: &Ask| ask.0).unwrap();
        let handle = layer.handle();
        let inside: Arc<Vec<_>> = Arc::new((0..keys).map(|_| Inside::default()).collect());
        let most = Arc::new(AtomicUsize::new(0));
        run(8, |task| {
            let (handle, inside, most) = (handle.clone(), inside.clone(), most.clone());
            async move {
                for round in 0..6000 {
                    // Two tasks at a time have the same key; the others cycle through all keys.
                    let key = (round * 7 + task / 2 * 31) % keys;
                    match handle.try_acquire(&key) {
                        Ok(permit) => {
                            inside[key as usize].enter();
                            yield_now().await;
                            inside[key as usize].leave();
                            drop(permit);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::BulkheadFull);
                            yield_now().await;
                        }
                    }
                    most.fetch_max(handle.stats().keys, Ordering::SeqCst);
                }
            }
        })
        .await;
        assert!(inside.iter().all(|key| key.peak.load(Ordering::SeqCst) == 1));
        assert_eq!(most.load(Ordering::SeqCst), cap, "reached, and never passed");
        let held = (0..keys).filter(|key| handle.get(key).is_some()).count();
        assert_eq!(held, cap, "the gauge counts the held keys");
        assert_eq!(handle.stats().too_many_keys, 0, "eight calls cannot fill the places");
    }
}
