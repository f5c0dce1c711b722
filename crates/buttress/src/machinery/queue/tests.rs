use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use super::*;

/// Brings one unit every 100 ms, the first immediately.
struct Drip {
    start: Instant,
    taken: AtomicU32,
    waiting: AtomicU32,
    /// The greatest cost there can be.
    most: AtomicU32,
}

impl Resource for Drip {
    type Receipt = ();
    const COMES_WITH_TIME: bool = true;

    fn take(&self, cost: u32, _since: Instant, until: Instant) -> Result<(), Lack> {
        if cost > self.most.load(Ordering::Relaxed) {
            return Err(Lack::Never);
        }
        if self.due(0, 1, until).is_some_and(|due| until < due) {
            return Err(Lack::Now);
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, _cost: u32, (): (), _now: Instant) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    fn due(&self, ahead: u64, _cost: u32, _now: Instant) -> Option<Instant> {
        Some(self.start + ms(100) * (self.taken.load(Ordering::Relaxed) + ahead as u32))
    }

    fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting.into(), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Counter(AtomicU32);

impl std::task::Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A queue with a clock that is moved by hand.
struct Rig {
    drip: Drip,
    queue: WaitQueue<Drip>,
}

/// A waiter, and how often it was woken.
struct Caller {
    place: Place,
    wakes: Arc<Counter>,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Rig {
    fn new() -> Self {
        let start = crate::vocabulary::clock::Clock::default().now();
        let [taken, waiting, most] = [1, 0, 1].map(AtomicU32::new);
        // The unit that is available immediately is taken.
        let drip = Drip { start, taken, waiting, most };
        Self { drip, queue: WaitQueue::new() }
    }

    fn at(&self, time: u64) -> Instant {
        self.drip.start + ms(time)
    }

    /// Joins without being polled.
    fn enter(&self, time: u64, longest: Option<u64>) -> Caller {
        self.join(time, Ask { cost: 1, capacity: 10, longest: longest.map(ms), claim: None })
    }

    /// Joins with a claim time of 50 ms.
    fn enter_with_claim(&self, time: u64, longest: Option<u64>) -> Caller {
        let claim = Some(ms(50));
        self.join(time, Ask { cost: 1, capacity: 10, longest: longest.map(ms), claim })
    }

    fn join(&self, time: u64, ask: Ask) -> Caller {
        let Joined::Waiting(place) = self.queue.join(&self.drip, ask, self.at(time), |_| true)
        else {
            panic!("nothing is there yet")
        };
        Caller { place, wakes: Arc::default() }
    }

    /// Joins and is polled. It will poll again at `looks_at`.
    fn wait(&self, longest: Option<u64>, looks_at: u64) -> Caller {
        let caller = self.enter(0, longest);
        assert_eq!(self.look(&caller, 0), Looked::Again(Some(self.at(looks_at))));
        caller
    }

    fn look(&self, caller: &Caller, time: u64) -> Looked<()> {
        let waker = Waker::from(caller.wakes.clone());
        let cx = Context::from_waker(&waker);
        self.queue.poll(&self.drip, &caller.place, self.at(time), &cx)
    }
}

impl Caller {
    fn wakes(&self) -> u32 {
        self.wakes.0.load(Ordering::Relaxed)
    }
}

const GRANTED: Looked<()> = Looked::Settled(Ok(()));
const TIMED_OUT: Looked<()> = Looked::Settled(Err(NotGranted::TimedOut));

#[test]
fn each_waiter_knows_its_turn_and_nobody_is_woken_for_another() {
    let rig = Rig::new();
    let callers = [rig.wait(None, 100), rig.wait(None, 200), rig.wait(None, 300)];
    for (turn, caller) in (1..).zip(&callers) {
        assert_eq!(rig.look(caller, turn * 100 - 1), Looked::Again(Some(rig.at(turn * 100))));
        assert_eq!(rig.look(caller, turn * 100), GRANTED);
    }
    assert!(callers.iter().all(|caller| caller.wakes() == 0), "they came by themselves");
    // The spare of the last waiter is kept for a moment.
    rig.queue.settle(&rig.drip, rig.at(305));
    assert_eq!(rig.drip.waiting.load(Ordering::Relaxed), 1);
    rig.queue.settle(&rig.drip, rig.at(306));
    assert_eq!(rig.drip.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn nobody_depends_on_the_head_being_polled() {
    // Regression: one timer woke only the head's task. A head that was kept and not polled then
    // blocked all waiters behind it, beyond their own longest waits.
    let rig = Rig::new();
    let (head, hasty) = (rig.wait(None, 100), rig.wait(Some(50), 50));
    let patient = rig.enter(0, None);
    assert_eq!(rig.look(&patient, 0), Looked::Again(Some(rig.at(300))));
    assert_eq!(rig.look(&hasty, 50), TIMED_OUT);
    assert_eq!(rig.look(&patient, 300), GRANTED);
    assert_eq!(head.wakes(), 1, "granted by the other's look");
    assert_eq!(rig.look(&head, 300), GRANTED);
}

#[test]
fn a_head_that_was_never_polled_is_served_too() {
    let rig = Rig::new();
    let (head, second) = (rig.enter(0, Some(1000)), rig.wait(None, 200));
    assert_eq!(rig.look(&second, 200), GRANTED);
    assert_eq!(rig.look(&head, 200), GRANTED);
}

#[test]
fn a_forgotten_head_is_given_nothing_after_its_time() {
    let rig = Rig::new();
    let (_forgotten, second) = (rig.enter(0, Some(50)), rig.wait(None, 200));
    rig.queue.settle(&rig.drip, rig.at(100));
    assert_eq!(second.wakes(), 1);
    assert_eq!(rig.look(&second, 100), GRANTED);
}

#[test]
fn every_deadline_is_its_own() {
    // Regression: a waiter inherited the deadline of the waiter ahead, or its deadline was not seen
    // behind a waiter without one.
    let rig = Rig::new();
    let callers = [rig.wait(None, 100), rig.wait(Some(90), 90), rig.wait(Some(30), 30)];
    assert_eq!(rig.look(&callers[2], 30), TIMED_OUT);
    assert_eq!(rig.look(&callers[1], 89), Looked::Again(Some(rig.at(90))));
    assert_eq!(rig.look(&callers[1], 90), TIMED_OUT);
    assert_eq!(rig.look(&callers[0], 100), GRANTED);
}

#[test]
fn who_moves_up_is_called_to_look_sooner() {
    let rig = Rig::new();
    let [first, second, third] = [rig.wait(None, 100), rig.wait(None, 200), rig.wait(None, 300)];
    assert!(rig.queue.leave(&rig.drip, &first.place, rig.at(50)).is_none());
    assert_eq!((first.wakes(), second.wakes(), third.wakes()), (0, 1, 0));
    assert_eq!(rig.look(&second, 50), Looked::Again(Some(rig.at(100))));
    assert_eq!(rig.look(&second, 100), GRANTED);
    // The same holds for the waiters behind.
    assert_eq!(third.wakes(), 1);
    assert_eq!(rig.look(&third, 100), Looked::Again(Some(rig.at(200))));
}

#[test]
fn what_can_never_be_had_does_not_block_the_line() {
    // Regression: a head that asked for more than a shrunk limiter can hold blocked the queue until
    // its longest wait.
    let rig = Rig::new();
    rig.drip.most.store(5, Ordering::Relaxed);
    let ask = Ask { cost: 5, capacity: 10, longest: None, claim: None };
    let joined = rig.queue.join(&rig.drip, ask, rig.at(0), |_| true);
    let Joined::Waiting(place) = joined else { panic!("nothing is there yet") };
    let (large, small) = (Caller { place, wakes: Arc::default() }, rig.enter(0, None));
    rig.drip.most.store(1, Ordering::Relaxed);
    rig.queue.settle(&rig.drip, rig.at(0));
    assert_eq!(rig.look(&large, 0), Looked::Settled(Err(NotGranted::Never)));
    assert_eq!(rig.look(&small, 100), GRANTED);
}

#[test]
fn who_leaves_hands_back_what_it_was_given() {
    let rig = Rig::new();
    let (first, second) = (rig.wait(None, 100), rig.wait(None, 200));
    rig.queue.settle(&rig.drip, rig.at(100));
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    assert!(rig.queue.leave(&rig.drip, &first.place, rig.at(100)).is_some());
    assert!(rig.queue.leave(&rig.drip, &second.place, rig.at(100)).is_none());
    assert_eq!(rig.queue.gauges(), Gauges { waiting: 0, peak: 2, owed: 0 });
}

#[test]
fn a_late_look_serves_everybody_whose_time_had_come() {
    let rig = Rig::new();
    let callers = [rig.wait(Some(150), 100), rig.wait(Some(150), 150), rig.wait(None, 300)];
    rig.queue.settle(&rig.drip, rig.at(320));
    assert_eq!(rig.look(&callers[0], 320), GRANTED, "in time, although every waiter polled late");
    assert_eq!(rig.look(&callers[1], 320), TIMED_OUT, "its turn was after its deadline");
    assert_eq!(rig.look(&callers[2], 320), GRANTED, "and so the third moved up");
    assert_eq!(rig.drip.taken.load(Ordering::Relaxed), 3);
}

#[test]
fn who_leaves_behind_a_waiter_does_not_move_it_up() {
    // Regression: its cost counted as gone before the waiter, which then polled too early forever.
    let rig = Rig::new();
    let (_head, second) = (rig.wait(None, 100), rig.wait(None, 200));
    let behind = rig.wait(None, 300);
    assert!(rig.queue.leave(&rig.drip, &behind.place, rig.at(0)).is_none());
    assert_eq!(rig.look(&second, 0), Looked::Again(Some(rig.at(200))));
    assert_eq!(rig.queue.gauges().owed, 2);
}

#[test]
fn what_is_not_claimed_goes_to_the_next_and_its_waiter_is_the_first_again() {
    let rig = Rig::new();
    let absent = rig.enter_with_claim(0, None);
    let next = rig.enter_with_claim(0, None);
    assert_eq!(rig.look(&absent, 0), Looked::Again(Some(rig.at(50))));
    rig.queue.settle(&rig.drip, rig.at(100));
    assert_eq!(absent.wakes(), 1);
    // The next waiter knows when the claim expires, and takes over at that time.
    assert_eq!(rig.look(&next, 100), Looked::Again(Some(rig.at(150))));
    rig.queue.settle(&rig.drip, rig.at(149));
    assert_eq!(next.wakes(), 0);
    assert_eq!(rig.look(&next, 150), GRANTED);
    assert_eq!(rig.queue.gauges(), Gauges { waiting: 1, peak: 2, owed: 0 });
    // A newcomer enters behind the waiter that returns to its place.
    let late = rig.enter_with_claim(150, None);
    assert_eq!(rig.look(&absent, 150), Looked::Again(Some(rig.at(200))));
    assert_eq!(rig.look(&late, 150), Looked::Again(Some(rig.at(200))));
    assert_eq!(rig.queue.gauges(), Gauges { waiting: 2, peak: 2, owed: 2 });
    assert_eq!(rig.look(&late, 200), Looked::Again(Some(rig.at(250))), "the first was served");
    assert_eq!(rig.look(&absent, 249), GRANTED);
    rig.queue.settle(&rig.drip, rig.at(299));
    assert_eq!(rig.look(&late, 300), GRANTED);
}

#[test]
fn what_is_claimed_in_time_is_not_taken_back() {
    let rig = Rig::new();
    let caller = rig.enter_with_claim(0, None);
    rig.queue.settle(&rig.drip, rig.at(100));
    assert_eq!(rig.look(&caller, 149), GRANTED);
    rig.queue.settle(&rig.drip, rig.at(1000));
    assert_eq!(rig.drip.taken.load(Ordering::Relaxed), 2);
}

#[test]
fn one_set_aside_keeps_its_deadline_and_can_leave() {
    let rig = Rig::new();
    let (late, leaves) = (rig.enter_with_claim(0, Some(120)), rig.enter_with_claim(0, None));
    rig.queue.settle(&rig.drip, rig.at(100));
    // The grant expires at 150, after the deadline. The next waiter gets it, and does not poll
    // either.
    rig.queue.settle(&rig.drip, rig.at(150));
    rig.queue.settle(&rig.drip, rig.at(200));
    assert_eq!(rig.queue.gauges().waiting, 1);
    assert_eq!(rig.look(&late, 200), TIMED_OUT);
    assert!(rig.queue.leave(&rig.drip, &leaves.place, rig.at(200)).is_none(), "it holds nothing");
    assert_eq!(rig.queue.gauges(), Gauges { waiting: 0, peak: 2, owed: 0 });
    assert_eq!(rig.drip.taken.load(Ordering::Relaxed), 1);
}

#[test]
fn one_that_claims_looks_often_enough_to_see_each_grant() {
    let rig = Rig::new();
    let caller = rig.enter_with_claim(0, None);
    let patient = rig.enter_with_claim(0, None);
    assert_eq!(rig.look(&caller, 10), Looked::Again(Some(rig.at(60))));
    assert_eq!(rig.look(&patient, 30), Looked::Again(Some(rig.at(80))));
    assert_eq!(rig.look(&caller, 60), Looked::Again(Some(rig.at(100))), "its turn is sooner");
}
