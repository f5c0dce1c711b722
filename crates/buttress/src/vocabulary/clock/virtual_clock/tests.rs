use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};

use super::*;

const MICRO: Duration = Duration::from_micros(1);

/// Records its number when it is woken.
struct Woken {
    number: usize,
    order: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.order.lock().unwrap().push(self.number);
    }
}

fn wakers(n: usize) -> (Vec<Waker>, Arc<Mutex<Vec<usize>>>) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let waker = |number| Waker::from(Arc::new(Woken { number, order: order.clone() }));
    ((0..n).map(waker).collect(), order)
}

fn poll(future: Pin<&mut impl Future<Output = ()>>, waker: &Waker) -> bool {
    future.poll(&mut Context::from_waker(waker)).is_ready()
}

#[test]
fn timers_fire_in_the_order_of_deadlines_then_of_registration() {
    let time = VirtualClock::new();
    let (wakers, order) = wakers(5);
    let deadlines = [900, 100, 500, 100, 100];
    let mut sleeps: Vec<_> =
        deadlines.iter().map(|n| Box::pin(time.clock().sleep(*n * MICRO))).collect();
    for (sleep, waker) in sleeps.iter_mut().zip(&wakers) {
        assert!(!poll(sleep.as_mut(), waker));
    }
    assert_eq!(time.timers(), 5);
    assert_eq!(time.next_deadline(), Some(100 * MICRO));
    let mut fired = Vec::new();
    assert!(time.fire_next(&mut fired));
    assert_eq!((fired.len(), time.elapsed()), (3, 100 * MICRO));
    fired.into_iter().for_each(Waker::wake);
    time.advance(Duration::from_millis(1));
    assert_eq!(*order.lock().unwrap(), [1, 3, 4, 2, 0]);
    assert_eq!(time.timers(), 0);
    assert!(!time.fire_next(&mut Vec::new()));
}

#[test]
fn a_deadline_is_exact_to_the_nanosecond() {
    let time = VirtualClock::new();
    let mut sleep = pin!(time.clock().sleep(Duration::from_nanos(1_200_001)));
    time.advance(Duration::from_nanos(1_200_000));
    assert!(!poll(sleep.as_mut(), Waker::noop()));
    time.advance(Duration::from_nanos(1));
    assert!(poll(sleep.as_mut(), Waker::noop()));
}

#[test]
fn a_timer_that_is_dropped_or_moved_does_not_fire_where_it_was() {
    let time = VirtualClock::new();
    let (wakers, order) = wakers(2);
    let mut dropped = Box::pin(time.clock().sleep(MICRO));
    let mut moved = Box::pin(time.clock().sleep(MICRO));
    assert!(!poll(dropped.as_mut(), &wakers[0]) && !poll(moved.as_mut(), &wakers[1]));
    drop(dropped);
    moved.as_mut().reset(time.clock().now() + 3 * MICRO);
    assert_eq!(time.timers(), 0, "a reset timer registers at its next poll");
    assert!(!poll(moved.as_mut(), &wakers[1]));
    time.advance(2 * MICRO);
    assert_eq!(*order.lock().unwrap(), [0; 0]);
    time.advance(MICRO);
    assert_eq!(*order.lock().unwrap(), [1]);
}

#[test]
fn only_the_last_waker_of_a_timer_is_woken() {
    let time = VirtualClock::new();
    let (wakers, order) = wakers(2);
    let mut sleep = pin!(time.clock().sleep(MICRO));
    assert!(!poll(sleep.as_mut(), &wakers[0]) && !poll(sleep.as_mut(), &wakers[1]));
    time.advance(MICRO);
    assert_eq!(*order.lock().unwrap(), [1]);
}

#[test]
fn timers_taken_back_early_do_not_pile_up() {
    let time = VirtualClock::new();
    let mut keep = pin!(time.clock().sleep(Duration::from_secs(1)));
    assert!(!poll(keep.as_mut(), Waker::noop()));
    for _ in 0..100_000 {
        let mut limit = pin!(time.clock().sleep(Duration::from_secs(30)));
        assert!(!poll(limit.as_mut(), Waker::noop()));
    }
    let timers = time.node.time.lock();
    assert!(timers.heap.len() < 200 && timers.slots.len() < 200, "{}", timers.heap.len());
    drop(timers);
    assert_eq!(time.timers(), 1);
    time.advance(Duration::from_secs(1));
    assert!(poll(keep.as_mut(), Waker::noop()));
}

#[test]
fn a_waker_may_use_the_clock() {
    struct Reads(Clock, AtomicUsize);
    impl Wake for Reads {
        fn wake(self: Arc<Self>) {
            let mut sleep = pin!(self.0.sleep(MICRO));
            assert!(!poll(sleep.as_mut(), Waker::noop()));
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let time = VirtualClock::new();
    let reads = Arc::new(Reads(time.clock(), AtomicUsize::new(0)));
    let mut sleep = pin!(time.clock().sleep(MICRO));
    assert!(!poll(sleep.as_mut(), &Waker::from(reads.clone())));
    time.advance(MICRO);
    assert_eq!(reads.1.load(Ordering::Relaxed), 1);
}

#[test]
fn each_node_has_a_wall_clock_of_its_own() {
    let time = VirtualClock::starting_at(Duration::from_secs(1000));
    let other = time.node();
    other.set_skew(-2_000_000_000);
    time.advance(Duration::from_secs(5));
    assert_eq!(time.clock().unix(), Duration::from_secs(1005));
    assert_eq!(other.clock().unix(), Duration::from_secs(1003));
    assert_eq!(time.clock().now(), other.clock().now());
}
