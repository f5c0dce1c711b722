use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::*;

/// A counter that every read moves by half a period, beside a system clock that stands still. Each
/// new anchor must begin at the end of the previous anchor.
struct Clocks(AtomicU64);

impl Readings for Clocks {
    fn counter(&self) -> u64 {
        self.0.fetch_add(PERIOD / 2, Ordering::SeqCst)
    }

    fn system(&self) -> u64 {
        1
    }
}

#[test]
fn loom_fast_time_goes_back_on_no_thread() {
    loom::model(|| {
        let clocks = Arc::new(Clocks(AtomicU64::new(0)));
        let anchors = Arc::new(Anchors::new(1 << 32, &*clocks));
        let told = Arc::new(AtomicU64::new(0));
        let other = {
            let (clocks, anchors, told) = (clocks.clone(), anchors.clone(), told.clone());
            thread::spawn(move || {
                let now = anchors.now(&*clocks);
                told.store(now, Ordering::SeqCst);
            })
        };
        let before = told.load(Ordering::SeqCst);
        let now = anchors.now(&*clocks);
        assert!(now >= before, "{now} after {before}");
        other.join().unwrap();
    });
}
