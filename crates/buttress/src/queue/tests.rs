use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// One unit comes every 100 ms, the first at once.
struct Drip {
    start: Instant,
    taken: AtomicU32,
    waiting: AtomicU32,
}

impl Resource for Drip {
    fn take(&self, _cost: u32, now: Instant) -> Result<(), Option<Instant>> {
        let due = self.start + ms(100) * self.taken.load(Ordering::Relaxed);
        if now < due {
            return Err(Some(due));
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
    queue: WaitQueue,
    clock: Clock,
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
    fn new() -> Self {
        let clock = Clock::default();
        let drip =
            Drip { start: clock.now(), taken: AtomicU32::new(0), waiting: AtomicU32::new(0) };
        let rig = Self { drip, queue: WaitQueue::new(), clock };
        // The unit that is there at once.
        assert!(rig.drip.take(1, rig.clock.now()).is_ok());
        rig
    }

    fn join(&self, longest: Option<Duration>) -> Joined {
        let now = self.clock.now();
        let ask = Ask { cost: 1, capacity: 10, longest };
        self.queue.join(&self.drip, ask, &self.clock, now, |_| true)
    }

    /// Joins and is polled once.
    fn wait(&self, longest: Option<Duration>) -> Caller {
        let Joined::Waiting(place) = self.join(longest) else { panic!("nothing is there yet") };
        let caller = Caller { place, wakes: Arc::default() };
        assert!(self.poll(&caller).is_pending());
        caller
    }

    fn poll(&self, caller: &Caller) -> Poll<Result<(), TimedOut>> {
        let waker = Waker::from(caller.wakes.clone());
        self.queue.poll(&self.drip, &caller.place, &self.clock, &mut Context::from_waker(&waker))
    }
}

impl Caller {
    fn wakes(&self) -> u32 {
        self.wakes.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn each_waiter_is_woken_once_when_its_turn_has_come() {
    let rig = Rig::new();
    let callers = [rig.wait(None), rig.wait(None), rig.wait(None)];
    for (i, caller) in callers.iter().enumerate() {
        tokio::time::advance(ms(99)).await;
        assert_eq!(caller.wakes(), 0);
        tokio::time::advance(ms(1)).await;
        assert!(matches!(rig.poll(caller), Poll::Ready(Ok(()))));
        let wakes: Vec<u32> = callers.iter().map(Caller::wakes).collect();
        assert_eq!(wakes.iter().sum::<u32>(), i as u32 + 1, "{wakes:?}");
    }
    assert_eq!(rig.drip.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_who_grants_the_head_hands_the_timer_on() {
    // Found by reading: the timer stayed with the waiter that was granted, and the next one slept for
    // ever.
    let rig = Rig::new();
    let (first, second) = (rig.wait(None), rig.wait(None));
    tokio::time::advance(ms(100)).await;
    // Before the first one is polled again.
    let third = rig.wait(None);
    assert!(matches!(rig.poll(&first), Poll::Ready(Ok(()))));
    tokio::time::advance(ms(100)).await;
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    assert!(matches!(rig.poll(&second), Poll::Ready(Ok(()))));
    tokio::time::advance(ms(100)).await;
    assert_eq!(third.wakes(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_without_a_deadline_does_not_inherit_one() {
    // Found by reading: the deadline of the waiter ahead was taken over.
    let rig = Rig::new();
    let (hasty, patient) = (rig.wait(Some(ms(50))), rig.wait(None));
    tokio::time::advance(ms(50)).await;
    assert!(matches!(rig.poll(&hasty), Poll::Ready(Err(TimedOut))));
    tokio::time::advance(ms(50)).await;
    assert_eq!(patient.wakes(), 1);
    assert!(matches!(rig.poll(&patient), Poll::Ready(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn the_head_that_leaves_hands_the_timer_on_and_a_granted_one_says_so() {
    let rig = Rig::new();
    let (first, second) = (rig.wait(None), rig.wait(None));
    assert!(!rig.queue.leave(&rig.drip, &first.place, &rig.clock));
    tokio::time::advance(ms(100)).await;
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    rig.queue.pump(&rig.drip, &rig.clock);
    assert!(rig.queue.leave(&rig.drip, &second.place, &rig.clock), "it had been granted");
    assert_eq!(rig.queue.gauges(), (0, 2, 0));
}

#[test]
fn a_timer_is_not_handed_to_a_waiter_of_another_runtime() {
    // Time is paused: the waits cost nothing.
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let (one, two) = (runtime(), runtime());
    let rig = one.block_on(async { Rig::new() });
    let first = one.block_on(async { rig.wait(None) });
    let second = two.block_on(async { rig.wait(None) });
    assert!(!rig.queue.leave(&rig.drip, &first.place, &rig.clock));
    drop(one);
    // It is woken, to make a timer of its own, and does not wait on one whose runtime is gone.
    assert_eq!(second.wakes(), 1);
    two.block_on(async {
        assert!(rig.poll(&second).is_pending());
        tokio::time::advance(ms(200)).await;
        assert!(matches!(rig.poll(&second), Poll::Ready(Ok(()))));
    });
}
