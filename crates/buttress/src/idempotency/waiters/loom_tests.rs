//! The owner of a key ends while other calls arrive: no call waits forever.

use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use loom::sync::Arc;

use super::{News, Place, Waiters};
use crate::idempotency::identity::Identity;
use crate::idempotency::key::Key;
use crate::idempotency::owner::Owner;
use crate::idempotency::store::ClaimId;
use crate::sync::{Mutex, beside, lock};

/// The state of the key in the store.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Row {
    InFlight,
    Free,
    Done,
}

struct World {
    waiters: Waiters<u32>,
    row: Mutex<Row>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self { waiters: Waiters::new(), row: Mutex::new(Row::InFlight) })
    }
}

#[derive(Default)]
struct Task(std::sync::atomic::AtomicBool);

impl Wake for Task {
    fn wake(self: StdArc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

fn identity() -> Identity {
    Identity { key: Key::new("k").expect("valid"), fingerprint: None }
}

fn owner(claim: u128, listed: bool) -> Owner {
    Owner { listed, ..Owner::new(identity(), ClaimId::new(claim)) }
}

/// Returns the news of a waiter after every other call has ended.
fn news(place: &Place<'_, u32>) -> Option<News<u32>> {
    match place.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(news) => Some(news),
        Poll::Pending => None,
    }
}

/// Joins like `call.rs`: first the queue, then the store.
fn join(world: &World) -> (Place<'_, u32>, Row) {
    let until = Instant::now() + Duration::from_secs(10);
    let place = Place::join(&world.waiters, &identity(), until);
    let row = *lock(&world.row);
    (place, row)
}

/// The owner is not listed yet: only the count of waiters makes it notify the waiter.
#[test]
fn loom_who_joins_while_the_owner_ends_hears_of_it() {
    for listed in [false, true] {
        loom::model(move || {
            let world = World::new();
            let mine = owner(1, listed);
            if listed {
                world.waiters.own(&mine, Instant::now() + Duration::from_secs(10));
            }
            let ends = beside(&world, move |world| {
                *lock(&world.row) = Row::Done;
                world.waiters.answered(&mine, 7);
            });
            let (place, row) = join(&world);
            let task = StdArc::new(Task::default());
            let waker = Waker::from(task.clone());
            let polled = place.poll(&mut Context::from_waker(&waker));
            ends.join().unwrap();
            if row == Row::InFlight && polled.is_pending() {
                assert!(task.0.load(std::sync::atomic::Ordering::SeqCst), "it is woken");
                assert!(matches!(news(&place), Some(News::Answer(7))));
            }
            drop(place);
            assert_eq!(world.waiters.waiting(), 0, "who is served is counted out once");
            assert!(world.is_empty());
        });
    }
}

/// The owner fails while the first waiter leaves: the second waiter asks the store.
#[test]
fn loom_the_look_is_handed_on_by_who_goes_away() {
    loom::model(|| {
        let world = World::new();
        let mine = owner(1, false);
        let (first, _) = join(&world);
        let (second, row) = join(&world);
        assert_eq!(row, Row::InFlight);
        let ends = beside(&world, move |world| {
            *lock(&world.row) = Row::Free;
            world.waiters.left(&mine);
        });
        drop(first);
        ends.join().unwrap();
        assert!(matches!(news(&second), Some(News::Look)));
        drop(second);
        assert_eq!(world.waiters.waiting(), 0);
        assert!(world.is_empty());
    });
}

impl World {
    /// Returns `true` if no queue is left behind.
    fn is_empty(&self) -> bool {
        self.waiters.shards.iter().all(|shard| lock(shard).is_empty())
    }
}
