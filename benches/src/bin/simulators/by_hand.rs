//! The simulation without a simulator.

use std::sync::Arc;
use std::time::Duration;

use buttress_sim::{Distribution, Histogram, Seed};

use crate::{Done, RATE, WORK};

/// Uses one task per request, a semaphore for the server, and sleeps. Every sleep is rounded up to
/// a millisecond, so the result differs.
pub(crate) fn run(requests: u64) -> Done {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { unreachable!("a runtime without I/O") };
    let seed = Seed::new(0);
    let (gaps, work) = (seed.named("arrivals"), seed.named("work"));
    let gap = Distribution::exponential(Duration::from_secs_f64(1.0 / RATE));
    runtime.block_on(async move {
        let server = Arc::new(tokio::sync::Semaphore::new(1));
        let times = Arc::new(std::sync::Mutex::new(Histogram::new()));
        let mut next = tokio::time::Instant::now();
        let mut last = None;
        for _ in 0..requests {
            next += gap.draw(&gaps);
            tokio::time::sleep_until(next).await;
            let (server, times) = (server.clone(), times.clone());
            let work = Distribution::exponential(WORK).draw(&work);
            last = Some(tokio::spawn(async move {
                let came = tokio::time::Instant::now();
                let permit = server.acquire().await;
                tokio::time::sleep(work).await;
                drop(permit);
                times
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .record(came.elapsed());
            }));
        }
        if let Some(last) = last {
            let _ = last.await;
        }
        let times = times.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (times.count(), times.mean())
    })
}
