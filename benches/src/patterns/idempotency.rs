//! Rows of idempotency. A key is text, as a header carries it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::Clock;
use buttress::idempotency::{Config, IdempotencyLayer, Key, MemoryStore};
use tower::{Layer, Service};

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::peers::{MOKA, TOWER_RESILIENCE, moka, tower_resilience};
use crate::row::Row;
use crate::subject::{Meter, call_once};
use crate::workload::{FailsAfter, Succeeds};

pub const STORED: Row = Row::all("idempotency: stored answer");
pub const FIRST: Row = Row::all("idempotency: first call");

pub const NOTES: &[&str] = &[
    "Idempotency: a key is 20 bytes of text, made on the stack; who stores it makes what it wants of it. \
     Everybody keeps 256 answers for an hour. The floor is a locked map with the calls in flight in it. \
     tower-resilience is its cache, which lets calls with one key run beside each other; moka is its \
     `try_get_with`, which does not.",
    "Idempotency, stored answer: 64 keys in turns, and a service that would fail.",
    "Idempotency, first call: a key that is not there, and the oldest answer goes.",
];

/// Answers that are kept.
pub const KEPT: usize = 256;
pub const LIFETIME: Duration = Duration::from_secs(3600);
/// Keys whose answers are stored.
const KEYS: u64 = 64;

/// A key as text.
pub struct Text([u8; 20]);

impl Text {
    fn new(number: u64) -> Self {
        let mut text = *b"key-0000000000000000";
        for (at, digit) in text[4..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15];
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits")
    }
}

/// How a request's key is found.
pub type Find = fn(&u64) -> Text;

/// One of few keys.
fn again(request: &u64) -> Text {
    Text::new(request % KEYS)
}

/// A key that nobody had before, whatever the request and the thread.
fn fresh(_: &u64) -> Text {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) << 48);
    }
    Text::new(NEXT.replace(NEXT.get() + 1))
}

fn buttress<S>(
    inner: S,
    find: Find,
) -> impl Service<u64, Response = u64, Future: Send> + Clone + Send
where
    S: Service<u64, Response = u64, Error = crate::workload::Failure, Future: Send + 'static>,
    S: Clone + Send + 'static,
{
    let store = MemoryStore::<u64>::with_capacity(Clock::default(), KEPT).expect("valid");
    let config = Config::new().result_lifetime(LIFETIME);
    let key = move |request: &u64| Key::new(find(request).as_str());
    IdempotencyLayer::new(config, store, key).expect("valid").layer(inner)
}

/// Its answers are stored, and it fails what is asked for again.
fn stored<S: Service<u64, Response = u64>>(make: impl FnOnce(FailsAfter) -> S) -> S {
    let mut service = make(FailsAfter(Arc::new(AtomicU64::new(KEYS))));
    for request in 0..KEYS {
        assert!(call_once(&mut service, request), "the first of a key succeeds");
    }
    service
}

pub fn visit(meter: &mut impl Meter) {
    meter.shared(STORED, BUTTRESS, || stored(|inner| buttress(inner, again)));
    meter.shared(STORED, FLOOR, || {
        stored(|inner| floors::idempotency::Idempotency::new(inner, again))
    });
    meter.shared(STORED, MOKA, || stored(|inner| moka::Cached::new(inner, again)));
    meter
        .shared(STORED, TOWER_RESILIENCE, || stored(|inner| tower_resilience::cache(inner, again)));

    meter.shared(FIRST, BUTTRESS, || buttress(Succeeds, fresh));
    meter.shared(FIRST, FLOOR, || floors::idempotency::Idempotency::new(Succeeds, fresh));
    meter.shared(FIRST, MOKA, || moka::Cached::new(Succeeds, fresh));
    meter.shared(FIRST, TOWER_RESILIENCE, || tower_resilience::cache(Succeeds, fresh));
}
