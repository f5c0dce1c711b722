use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::*;

/// One unit comes every 100 ms, the first at once.
struct Drip {
    start: Instant,
    taken: AtomicU32,
    waiting: AtomicU32,
    /// The greatest cost there can be.
    most: AtomicU32,
}

impl Resource for Drip {
    type Receipt = ();

    fn take(&self, cost: u32, now: Instant) -> Result<(), Lack> {
        if cost > self.most.load(Ordering::Relaxed) {
            return Err(Lack::Never);
        }
        let due = self.start + ms(100) * self.taken.load(Ordering::Relaxed);
        if now < due {
            return Err(Lack::Until(due));
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
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

struct Rig {
    drip: Drip,
    queue: WaitQueue<Drip>,
    clock: Clock,
    settler: Waker,
}

struct Settler(Weak<Rig>);

impl std::task::Wake for Settler {
    fn wake(self: Arc<Self>) {
        if let Some(rig) = self.0.upgrade() {
            rig.queue.settle(rig.with());
        }
    }
}

/// A waiter and how often it was woken.
struct Caller {
    place: Place,
    wakes: Arc<Counter>,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Rig {
    fn new() -> Arc<Self> {
        let clock = Clock::default();
        let drip = Drip {
            start: clock.now(),
            taken: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            most: AtomicU32::new(1),
        };
        // The unit that is there at once.
        assert!(drip.take(1, clock.now()).is_ok());
        Arc::new_cyclic(|rig| {
            let settler = Waker::from(Arc::new(Settler(rig.clone())));
            Self { drip, queue: WaitQueue::new(), clock, settler }
        })
    }

    fn with(&self) -> With<'_, Drip> {
        With { resource: &self.drip, clock: &self.clock, settler: &self.settler }
    }

    /// Joins, and is not polled.
    fn enter(&self, longest: Option<Duration>) -> Caller {
        let ask = Ask { cost: 1, capacity: 10, longest };
        let Joined::Waiting(place) = self.queue.join(self.with(), ask, |_, _| true) else {
            panic!("nothing is there yet")
        };
        Caller { place, wakes: Arc::default() }
    }

    /// Joins and is polled once.
    fn wait(&self, longest: Option<Duration>) -> Caller {
        let caller = self.enter(longest);
        assert!(self.poll(&caller).is_pending());
        caller
    }

    fn poll(&self, caller: &Caller) -> Poll<Result<(), InVain>> {
        let waker = Waker::from(caller.wakes.clone());
        self.queue.poll(self.with(), &caller.place, &mut Context::from_waker(&waker))
    }
}

impl Caller {
    fn wakes(&self) -> u32 {
        self.wakes.0.load(Ordering::Relaxed)
    }
}

const GRANTED: Poll<Result<(), InVain>> = Poll::Ready(Ok(()));
const TIMED_OUT: Poll<Result<(), InVain>> = Poll::Ready(Err(InVain::TimedOut));

#[tokio::test(start_paused = true)]
async fn each_waiter_is_woken_once_when_its_turn_has_come() {
    let rig = Rig::new();
    let callers = [rig.wait(None), rig.wait(None), rig.wait(None)];
    for (i, caller) in callers.iter().enumerate() {
        tokio::time::advance(ms(99)).await;
        assert_eq!(caller.wakes(), 0);
        tokio::time::advance(ms(1)).await;
        let wakes: Vec<u32> = callers.iter().map(Caller::wakes).collect();
        assert_eq!(wakes.iter().sum::<u32>(), i as u32 + 1, "{wakes:?}");
        assert_eq!(rig.poll(caller), GRANTED);
        assert_eq!(caller.wakes(), 1, "not by its own look");
    }
    assert_eq!(rig.drip.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_depends_on_the_head_being_polled() {
    // Found in review: the timer woke the head's task alone, so a future that was kept and not polled
    // held up everybody behind it, beyond their own longest waits.
    let rig = Rig::new();
    let (head, hasty, patient) = (rig.wait(None), rig.wait(Some(ms(50))), rig.wait(None));
    tokio::time::advance(ms(50)).await;
    assert_eq!(hasty.wakes(), 1);
    assert_eq!(rig.poll(&hasty), TIMED_OUT);
    tokio::time::advance(ms(150)).await;
    assert_eq!((head.wakes(), patient.wakes()), (1, 1));
    assert_eq!(rig.poll(&patient), GRANTED);
    assert_eq!(rig.poll(&head), GRANTED);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_was_never_polled_is_served_too() {
    let rig = Rig::new();
    let (head, second) = (rig.enter(Some(ms(1000))), rig.wait(None));
    tokio::time::advance(ms(200)).await;
    assert_eq!(second.wakes(), 1);
    assert_eq!((rig.poll(&head), rig.poll(&second)), (GRANTED, GRANTED));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_who_grants_the_head_sets_the_timer_for_the_next() {
    // Found by reading: the timer stayed with the waiter that was granted, and the next one slept for
    // ever.
    let rig = Rig::new();
    let (first, second) = (rig.wait(None), rig.wait(None));
    tokio::time::advance(ms(100)).await;
    let third = rig.wait(None);
    assert_eq!(rig.poll(&first), GRANTED);
    tokio::time::advance(ms(100)).await;
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    tokio::time::advance(ms(100)).await;
    assert_eq!((rig.poll(&second), rig.poll(&third)), (GRANTED, GRANTED));
}

#[tokio::test(start_paused = true)]
async fn every_deadline_is_its_own() {
    // Found in review: deadlines were inherited from the waiter ahead, or not seen behind one that has
    // none.
    let rig = Rig::new();
    let callers = [rig.wait(None), rig.wait(Some(ms(90))), rig.wait(Some(ms(30)))];
    tokio::time::advance(ms(30)).await;
    assert_eq!(rig.poll(&callers[2]), TIMED_OUT);
    tokio::time::advance(ms(59)).await;
    assert_eq!((callers[0].wakes(), callers[1].wakes()), (0, 0));
    tokio::time::advance(ms(1)).await;
    assert_eq!(rig.poll(&callers[1]), TIMED_OUT);
    tokio::time::advance(ms(10)).await;
    assert_eq!(rig.poll(&callers[0]), GRANTED);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_had_does_not_block_the_line() {
    // Found in review: a head that asked for more than a shrunk limiter can hold stood until its
    // longest wait, and everybody behind it.
    let rig = Rig::new();
    rig.drip.most.store(5, Ordering::Relaxed);
    let ask = Ask { cost: 5, capacity: 10, longest: None };
    let Joined::Waiting(place) = rig.queue.join(rig.with(), ask, |_, _| true) else { panic!() };
    let large = Caller { place, wakes: Arc::default() };
    assert!(rig.poll(&large).is_pending());
    let small = rig.wait(None);
    rig.drip.most.store(1, Ordering::Relaxed);
    rig.queue.settle(rig.with());
    assert_eq!(rig.poll(&large), Poll::Ready(Err(InVain::Never)));
    tokio::time::advance(ms(100)).await;
    assert_eq!(rig.poll(&small), GRANTED);
}

#[tokio::test(start_paused = true)]
async fn the_one_who_leaves_makes_way_and_hands_back_what_it_was_given() {
    let rig = Rig::new();
    let (first, second) = (rig.wait(None), rig.wait(None));
    assert!(rig.queue.leave(rig.with(), &first.place).is_none());
    tokio::time::advance(ms(100)).await;
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert!(rig.queue.leave(rig.with(), &second.place).is_some(), "it had been granted");
    assert_eq!(rig.queue.gauges(), (0, 2, 0));
}

#[test]
fn a_timer_outlives_neither_its_runtime_nor_its_waiters() {
    // Found in review: releasing a permit polled the timer of a runtime that was gone, which panics.
    // Time is paused: the waits cost nothing.
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime")
    };
    let (one, two) = (runtime(), runtime());
    let rig = one.block_on(async { Rig::new() });
    let kept = one.block_on(async { rig.wait(Some(ms(80))) });
    let second = two.block_on(async { rig.wait(None) });
    drop(one);
    rig.queue.settle(rig.with());
    two.block_on(async {
        rig.queue.settle(rig.with());
        assert!(rig.queue.leave(rig.with(), &kept.place).is_none());
        // The timer is set anew, in the runtime of the one who waits.
        assert!(rig.poll(&second).is_pending());
        tokio::time::advance(ms(200)).await;
        assert_eq!(second.wakes(), 1);
        assert_eq!(rig.poll(&second), GRANTED);
    });
}
