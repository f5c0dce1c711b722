//! How many projections of a log read at the same time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use buttress::Clock;
use tower::{BoxError, service_fn};

use super::super::*;
use super::faulty::Faulty;
use super::projecting::{fill, memory, until};

#[tokio::test(start_paused = true)]
async fn four_projections_read_at_the_same_time() {
    let store = memory();
    fill(&store, 3).await;
    let faulty = Faulty::new(store, []).reading_takes(Duration::from_millis(50));
    let log = Log::new(faulty.clone());
    let handles: Vec<ProjectionHandle> = (0..9)
        .map(|number| {
            let handler = service_fn(async |batch: Batch<()>| Ok::<_, BoxError>(batch));
            let name = format!("list-{number}");
            Projection::new(name, &log, handler, Config::new()).unwrap().spawn()
        })
        .collect();
    let begun = Clock::default().now();
    until(|| handles.iter().all(|handle| handle.stats().checkpoint == 3)).await;
    assert_eq!(faulty.most_readers.load(Ordering::Relaxed), 4);
    let lasted = Clock::default().now() - begun;
    assert!(lasted >= Duration::from_millis(150), "nine reads in three turns: {lasted:?}");
}
