//! Mirrors and copies whose clones and destructors panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use buttress::shadow::{Handle, Shadow};
use buttress::split::Ending;
use tower::{BoxError, Service, service_fn};

use super::{config, settle};
use crate::support::{begin, now};

/// A mirror whose clones panic when they are made, and all of whose values panic when they are dropped, once said so.
#[derive(Default)]
struct Fragile {
    clones: Arc<AtomicBool>,
    drops: Arc<AtomicBool>,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.clones.load(Ordering::Relaxed), "clone");
        Self { clones: self.clones.clone(), drops: self.drops.clone() }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        let panics = self.drops.load(Ordering::Relaxed) && !std::thread::panicking();
        assert!(!panics, "drop");
    }
}

impl Service<u32> for Fragile {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, id: u32) -> Self::Future {
        std::future::ready(Ok(id))
    }
}

fn caught<T>(code: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(code))
}

fn ends(handle: &Handle) -> (u64, u64, u64, u64) {
    let stats = handle.stats();
    (stats.mirrored, stats.dropped, stats.panicked, stats.running)
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_mirror_whose_clone_panics_changes_nothing_for_the_caller() {
    let primary = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let mirror = Fragile::default();
    mirror.clones.store(true, Ordering::Relaxed);
    let mut shadow = Shadow::new(primary, mirror, |id: &u32| Some(*id), config()).unwrap();
    assert_eq!(now(begin(&mut shadow, 7)).unwrap(), 7);
    settle().await;
    assert_eq!(ends(&shadow.handle()), (1, 0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_3_7_a_mirror_whose_destructor_panics_changes_nothing_for_the_caller() {
    let primary = service_fn(async |id: u32| Ok::<u32, BoxError>(id));
    let mirror = Fragile::default();
    let drops = mirror.drops.clone();
    let copy = |id: &u32| Some(*id);
    let shadow = Shadow::new(primary, mirror, copy, config().max_running(1)).unwrap();
    let mut shadow = shadow.judge(|answer: &Result<u32, BoxError>| match answer {
        Ok(1) => Ending::Unsent,
        _ => Ending::Answered,
    });
    let [dropped, unsent, mirrored, late] = [0, 1, 2, 3].map(|id| begin(&mut shadow, id));
    drops.store(true, Ordering::Relaxed);
    let dropped = caught(|| drop(dropped));
    let answers = [caught(|| now(unsent)), caught(|| now(mirrored)), caught(|| now(late))];
    drops.store(false, Ordering::Relaxed);
    assert!(dropped.is_ok(), "the response was dropped");
    for (answer, which) in answers.into_iter().zip(["unsent", "mirrored", "no slot"]) {
        assert!(answer.is_ok_and(|answer| answer.is_ok()), "{which}");
    }
    settle().await;
    assert_eq!(ends(&shadow.handle()), (1, 1, 0, 0));
}
