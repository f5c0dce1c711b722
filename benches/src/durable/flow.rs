//! Work with a constant concurrency: each task takes the next piece after its own.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Runs pieces 0 up to `pieces`, `at_once` of them concurrently, and returns the rate per second.
pub async fn rate<W, F>(pieces: u64, at_once: usize, work: W) -> f64
where
    W: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (work, next) = (Arc::new(work), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..at_once {
        let (work, next) = (work.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= pieces {
                    return;
                }
                work(piece).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a task failed");
    }
    pieces as f64 / began.elapsed().as_secs_f64()
}

/// The runtime for everything that is not measured on one thread.
pub fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
