//! A grant that is claimed while it expires.

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use loom::sync::Arc;

use super::*;
use crate::sync::{AtomicU32, Ordering, beside};

/// One permit.
struct One {
    free: AtomicU32,
    waiting: AtomicU32,
}

impl Resource for One {
    type Receipt = ();
    const COMES_WITH_TIME: bool = false;

    fn take(&self, _cost: u32, _since: Instant, _until: Instant) -> Result<(), Lack> {
        let taken = self.free.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed);
        taken.map(drop).map_err(|_| Lack::Now)
    }

    fn give_back(&self, _cost: u32, (): (), _now: Instant) {
        self.free.store(1, Ordering::Release);
    }

    fn due(&self, _ahead: u64, _cost: u32, _now: Instant) -> Option<Instant> {
        None
    }

    fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting.into(), Ordering::Release);
    }
}

const CLAIM: Duration = Duration::from_secs(1);

/// Returns a queue of two waiters. The first was granted the only permit, and has not polled for
/// it.
fn line_of_two(now: Instant) -> (Arc<(One, WaitQueue<One>)>, Place, Place) {
    let one = One { free: AtomicU32::new(0), waiting: AtomicU32::new(0) };
    let shared = Arc::new((one, WaitQueue::new()));
    let place = || {
        let ask = Ask { cost: 1, capacity: 2, longest: None, claim: Some(CLAIM) };
        match shared.1.join(&shared.0, ask, now, |_| true) {
            Joined::Waiting(place) => place,
            _ => unreachable!("nothing is free"),
        }
    };
    let (first, second) = (place(), place());
    shared.0.give_back(1, (), now);
    shared.1.settle(&shared.0, now);
    (shared, first, second)
}

fn looks(shared: &(One, WaitQueue<One>), place: &Place, now: Instant) -> bool {
    let cx = Context::from_waker(Waker::noop());
    matches!(shared.1.poll(&shared.0, place, now, &cx), Looked::Settled(Ok(())))
}

#[test]
fn loom_queue_a_grant_is_claimed_or_taken_back_and_never_both() {
    loom::model(|| {
        let now = Instant::now();
        let (shared, first, second) = line_of_two(now);
        let late = beside(&shared, move |shared| (looks(&shared, &first, now), first));
        let mine = looks(&shared, &second, now + CLAIM);
        let (theirs, first) = late.join().unwrap();
        assert!(mine ^ theirs, "one of them holds the permit");
        // The other waiter is the head, and gets the permit when it is returned.
        shared.0.give_back(1, (), now);
        shared.1.settle(&shared.0, now + CLAIM);
        let other = if mine { &first } else { &second };
        assert!(looks(&shared, other, now + CLAIM));
        assert_eq!(shared.1.gauges().waiting, 0);
        assert_eq!(shared.0.waiting.load(Ordering::Acquire), 0);
    });
}

#[test]
fn loom_queue_one_that_leaves_while_its_grant_is_taken_back_loses_nothing() {
    loom::model(|| {
        let now = Instant::now();
        let (shared, first, second) = line_of_two(now);
        let leaver = beside(&shared, move |shared| {
            if shared.1.leave(&shared.0, &first, now).is_some() {
                shared.0.give_back(1, (), now);
                shared.1.settle(&shared.0, now);
            }
        });
        let mine = looks(&shared, &second, now + CLAIM);
        leaver.join().unwrap();
        assert!(mine || looks(&shared, &second, now + CLAIM), "the permit reached the next");
        assert_eq!(shared.1.gauges().waiting, 0);
    });
}
